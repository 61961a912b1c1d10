"""The benchmark that compares a job here with the same one in diffusers' pipeline."""

from pathlib import Path

import torch

from bench.pipeline import SIDE, TOTAL, by_diffusers, by_longtake, make_pipeline, make_plan, random_frames
from longtake.families import FAMILIES
from longtake.models.registry import card
from longtake.settings import settings
from longtake.video import ignore_progress
from tests import raw


def test_both_ways_make_a_video_of_the_same_size(tmp_path: Path) -> None:
    frames, model = random_frames(), FAMILIES["ltxv"].recipe.load(card("ltxv-tiny"), settings(), ignore_progress)
    with torch.no_grad():
        assert by_longtake(model, make_plan(), frames, tmp_path / "here.mp4") > 0
        assert by_diffusers(make_pipeline(), frames, tmp_path / "there.mp4") > 0
    for name in ("here.mp4", "there.mp4"):
        assert raw.luma(tmp_path / name).shape == (TOTAL, SIDE, SIDE), name
