"""The LTX-2 recipe against the original implementation, tensor by tensor."""

from pathlib import Path

import pytest
import torch

from bench.oracle import ltx2, parts
from bench.oracle.cases import LTX2_EXTENSIONS
from longtake.sampling.schedules import SECOND_PASS_LEVELS
from tests.conftest import load_case


@pytest.mark.parametrize(
    ("name", "at_once", "devices"),
    [
        *((name, at_once, 1) for at_once in (1, 4) for name in LTX2_EXTENSIONS),
        ("ltx2_extend_forward_s1", 4, 2),
        ("ltx2_extend_forward_noaudio", 4, 3),
        ("ltx2_extend_backward_s1", 1, 3),
    ],
)
def test_extension(oracle: Path, name: str, at_once: int, devices: int) -> None:
    case, *copies = (load_case(oracle, name) for _ in range(devices))
    for stream, track in ltx2.extension_tracks(case).items():
        wanted = case.expected[f"{stream}.clean"]
        is_given = track.mask.expand_as(wanted) < 1
        assert torch.equal(track.clean[is_given], wanted[is_given])
    case.check_all(ltx2.extension(case, at_once, copies))


def test_guidance(oracle: Path) -> None:
    case = load_case(oracle, "ltx2_guidance")
    case.check_all(ltx2.guidance(case))


def test_one_evaluation_makes_every_prediction(oracle: Path) -> None:
    case = load_case(oracle, "ltx2_transformer_context")
    case.check_all(ltx2.forward(case))


def test_upsampler(oracle: Path) -> None:
    case = load_case(oracle, "ltx2_upsampler")
    case.check_all(ltx2.upsampler(case))


def test_video_vae(oracle: Path) -> None:
    case = load_case(oracle, "ltx2_video_vae")
    case.check_all(parts.video_vae(case))


@pytest.mark.parametrize("name", ["ltx2_two_stage", "ltx2_two_stage_lora"])
def test_two_scales(oracle: Path, name: str) -> None:
    case = load_case(oracle, name)
    assert torch.equal(case.given["sigmas.stage2"], torch.tensor(SECOND_PASS_LEVELS))
    case.check_all(ltx2.two_scales(case))
