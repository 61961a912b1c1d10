"""Previews: how near the linear decoder comes to the true one, what is shown when, and that nothing else changes."""

import math
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from longtake.endpoints import ltxv098
from longtake.endpoints.validation import parse
from longtake.families.family import Context, PlanRun
from longtake.families.ltx2 import generate as ltx2
from longtake.families.ltxv import generate as ltxv
from longtake.families.ltxv.plan import LTXVPlan
from longtake.sampling.preview import (
    LinearDecoder,
    Preview,
    PreviewedFrames,
    evenly_spaced,
    lazy_decoder,
    middle_frames,
    pairs,
    preview_callback,
)
from longtake.sampling.resume import NO_RESUME
from longtake.sampling.vae import Statistics, decode, encode_clip
from longtake.settings import settings
from longtake.video import VideoInfo, ignore_progress
from tests.families.ltx2.generating import CONTEXT, SCENE, Film, film_of, hurried, planned
from tests.models.cards import ltxv_card

HALF_SECOND = Fraction(1, 2)


class Collected:
    """Collects previews, of which one is due at each step."""

    def __init__(self) -> None:
        self.previews: list[Preview] = []

    def is_due(self) -> bool:
        return True

    def show(self, preview: Preview, cost_s: float) -> None:
        assert cost_s > 0
        self.previews.append(preview)


class Never(Collected):
    def is_due(self) -> bool:
        return False


@pytest.fixture(scope="module")
def film() -> Film:
    return film_of(SCENE)


def decibels(one: NDArray[Any], other: NDArray[Any]) -> float:
    """The PSNR of pictures in 0..255."""
    return -10 * math.log10(float(((one.astype(float) - other.astype(float)) / 255).__pow__(2).mean()))


def small(frames: Tensor, size: tuple[int, ...]) -> NDArray[Any]:
    """Frames [t, 3, H, W] in 0..1 as pictures [t, h, w, 3] of `size` = (h, w) in 0..255."""
    pictures: NDArray[Any] = functional.interpolate(frames, size=size, mode="area").permute(0, 2, 3, 1).numpy() * 255
    return pictures


@pytest.mark.parametrize("model", ["embedded", "sounding"])
def test_a_decoder_fitted_to_the_context_draws_the_frames_after_it(
    model: str, film: Film, request: pytest.FixtureRequest
) -> None:
    """Against the true decoding at the preview's size; a still picture of the last context frame is much farther."""
    vae = request.getfixturevalue(model).vae
    with torch.inference_mode():
        latent = encode_clip(vae, film.frames, (64, 64))
        true = (decode(vae, Statistics.of(vae).unnormalise(latent), 0) / 2 + 0.5).clamp(0, 1)
        known = (CONTEXT - 1) // 4 + 1
        decoder = LinearDecoder.fit(*pairs(latent[:, :, :known], film.frames[:CONTEXT]))
        pictures = decoder.pictures(latent[:, :, known:])
    assert pictures.shape == (latent.shape[2] - known, 64, 64, 3)
    middles = middle_frames(len(film.frames), latent.shape[2])
    wanted = small(true[middles[known:]], pictures.shape[1:3])
    still = small(true[[middles[known - 1]]], pictures.shape[1:3])
    assert decibels(pictures, wanted) > 23
    assert decibels(pictures, wanted) > decibels(still, wanted) + 3


def test_pictures_of_wide_frames_are_at_most_320_pixels_wide() -> None:
    frames = np.zeros((1, 64, 4096, 3), np.uint8)
    decoder = LinearDecoder.fit(*pairs(torch.randn(1, 4, 1, 2, 128), frames))
    assert decoder.pictures(torch.randn(1, 4, 3, 2, 128)).shape == (3, 4, 256, 3)


def test_a_decoder_of_constant_latents_draws_their_mean() -> None:
    frames = np.full((9, 32, 32, 3), 100, np.uint8)
    decoder = LinearDecoder.fit(*pairs(torch.zeros(1, 4, 2, 2, 2), frames))
    assert (decoder.pictures(torch.zeros(1, 4, 1, 2, 2)) == 100).all()


def test_the_frame_of_a_latent_is_in_the_middle_of_those_it_covers() -> None:
    assert middle_frames(17, 3) == [0, 5, 13]
    assert middle_frames(1, 1) == [0]


@pytest.mark.parametrize(
    ("numbers", "chosen"), [(range(2, 5), [2, 3, 4]), (range(4, 28), list(range(5, 28, 2))), (range(7, 8), [7])]
)
def test_at_most_twelve_latents_are_shown(numbers: range, chosen: list[int]) -> None:
    assert evenly_spaced(numbers, 12) == chosen
    assert PreviewedFrames(numbers, HALF_SECOND, 1, 1).shown() == chosen
    assert PreviewedFrames(numbers, HALF_SECOND, 1, 1, is_reversed=True).shown() == chosen[::-1]


def test_nothing_is_estimated_or_fitted_before_a_preview_is_due() -> None:
    def fail() -> Any:
        raise AssertionError

    previewed = PreviewedFrames(range(3), HALF_SECOND, 1, 1)
    preview_callback(Never(), fail, previewed)(0, 4, fail)
    preview_callback(None, fail, previewed)(0, 4, fail)
    preview_callback(Collected(), None, previewed)(0, 4, fail)
    preview_callback(Collected(), fail, replace(previewed, latents=range(0)))(0, 4, fail)


def test_a_preview_lasts_as_long_as_the_frames_it_shows() -> None:
    shown = Collected()
    latent = torch.randn(1, 4, 30, 2, 2)
    decoder = lazy_decoder(latent[:, :, :2], np.zeros((9, 32, 32, 3), np.uint8))
    preview_callback(shown, decoder, PreviewedFrames(range(6, 30), HALF_SECOND, 2, 3))(4, 8, lambda: latent)
    (preview,) = shown.previews
    assert len(preview.pictures) == 12
    assert preview.picture_s == 1.0
    assert (preview.step, preview.steps, preview.window, preview.windows) == (5, 8, 2, 3)


def frames_of(clips: Iterator[Any]) -> Tensor:
    return torch.cat([chunk for clip in clips for chunk in clip.frames])


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_previews_of_ltx2_show_the_new_frames_and_change_no_bit(sounding: Any, film: Film, direction: str) -> None:
    more: dict[str, Any] = {"extend_direction": direction, "num_context_frames": 16} if direction == "backward" else {}
    plan = hurried(planned(film, **more))
    frames = film.frames[-CONTEXT:] if plan.new_first else film.frames[:CONTEXT]
    context = Context(frames)
    made, shown = [], Collected()
    for previews in (None, shown):
        run = PlanRun(plan, sounding, settings(), NO_RESUME, ignore_progress, previews=previews)
        with torch.inference_mode():
            made.append(frames_of(ltx2.generate(run, plan.prompt, context)))
    assert torch.equal(*made)
    assert [(one.step, one.steps) for one in shown.previews] == [(n, plan.steps) for n in range(1, plan.steps + 1)]
    assert_shows(shown.previews[-1], made[0][: plan.new_frames])


def test_previews_of_ltxv_show_the_new_frames_and_change_no_bit(embedded: Any, film: Film) -> None:
    body = {"prompt": "x", "num_frames": 33, "video": {"video_url": "x"}, "constant_rate_factor": 0}
    source = VideoInfo("mp4", "h264", 64, 64, Fraction(24), CONTEXT)
    options = ltxv098.ENDPOINT.options(parse(ltxv098.Request, body), source)
    plan = ltxv098.ENDPOINT.plan(options, source, ltxv_card("ltxv-tiny"), 1, {})
    assert isinstance(plan, LTXVPlan)
    passes = tuple(replace(one, canvas=(64 * 2**number, 64 * 2**number)) for number, one in enumerate(plan.passes))
    plan = replace(plan, width=64, height=64, passes=passes)
    made, shown = [], Collected()
    for previews in (None, shown):
        run = PlanRun(plan, embedded, settings(), NO_RESUME, ignore_progress, previews=previews)
        with torch.inference_mode():
            made.append(frames_of(ltxv.generate(run, plan.prompt, Context(film.frames[:CONTEXT]))))
    assert torch.equal(*made)
    assert {one.window for one in shown.previews} == set(range(1, plan.num_windows + 1))
    first = [one for one in shown.previews if one.window == 1]
    count = len(first[-1].pictures)
    assert_shows(first[-1], made[0][1 : 1 + 4 * count])


def assert_shows(preview: Preview, frames: Tensor) -> None:
    """The preview's pictures are those in the middle of each four of the frames [t, 3, H, W]."""
    size = preview.pictures.shape[1:3]
    middles = small(frames[2::4], size)[: len(preview.pictures)]
    assert decibels(preview.pictures[: len(middles)], middles) > 18
