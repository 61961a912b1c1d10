"""The recipe on the embedded model: what comes out, and what each parameter of a request does to it."""

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from longtake.endpoints import Endpoint, ltxv097, ltxv098
from longtake.endpoints.validation import parse
from longtake.errors import Cancelled
from longtake.families.family import Context, PlanRun
from longtake.families.ltxv.generate import generate
from longtake.families.ltxv.model import LTXVModel
from longtake.families.ltxv.plan import LTXVPlan
from longtake.sampling.resume import NO_RESUME, Resume
from longtake.sampling.schedules import noise_levels
from longtake.settings import settings
from longtake.video import OnProgress, Progress, VideoInfo, ignore_progress
from recipes.tiny.render import render
from recipes.tiny.world import prompt as words_of
from recipes.tiny.world import sample
from tests.models.cards import ltxv_card

SCENE = next(
    scene
    for scene in (sample(960_000_000 + i, "straight", (64, 64), 41) for i in range(1000))
    if math.hypot(*scene.things[0].velocity) > 0.9
)
PROMPT = words_of(SCENE)
CONTEXT = 17
VISIBLE = 1 / 255


@pytest.fixture(scope="module")
def footage() -> NDArray[np.uint8]:
    """41 frames of one object in straight motion, 64x64."""
    frames = ((render([SCENE])[0].permute(1, 2, 3, 0) + 1) * 127.5).round().byte().numpy()
    return np.ascontiguousarray(frames)


def planned(endpoint: Endpoint[Any, Any] = ltxv098.ENDPOINT, **fields: Any) -> LTXVPlan:
    """The plan of a request about CONTEXT frames of 64x64 footage, written at that size."""
    video = {"video_url": "x"} | fields.pop("video", {})
    request = parse(endpoint.Request, {"prompt": PROMPT, **fields, "video": video})
    source = VideoInfo("mp4", "h264", 64, 64, Fraction(24), CONTEXT)
    plan = endpoint.plan(endpoint.options(request, source), source, ltxv_card("ltxv-tiny"), 1, {})
    assert isinstance(plan, LTXVPlan)
    canvases = tuple(replace(p, canvas=(64 * 2**i, 64 * 2**i)) for i, p in enumerate(plan.passes))
    return replace(plan, width=64, height=64, passes=canvases)


def made(
    models: LTXVModel,
    plan: LTXVPlan,
    footage: NDArray[np.uint8],
    *,
    resume: Resume = NO_RESUME,
    on_progress: OnProgress = ignore_progress,
) -> Tensor:
    """All frames of an extension, after the rendition of the last context frame where the source is shown."""
    run = PlanRun(plan, models, settings(), resume, on_progress)
    [piece] = generate(run, plan.prompt, Context(footage[:CONTEXT]))
    assert (piece.rendition is not None) == plan.keeps_source
    assert (piece.new_frames, piece.context_frames) == (plan.new_frames, plan.context_frames)
    return torch.cat([*([] if piece.rendition is None else [piece.rendition[None]]), *piece.frames])


def test_frames_are_as_many_and_as_large_as_planned(embedded: LTXVModel, footage: NDArray[np.uint8]) -> None:
    plan = planned(num_frames=41)
    frames = made(embedded, plan, footage)
    assert frames.shape == (plan.new_frames + 1, 3, 64, 64)
    assert frames.min() >= 0
    assert frames.max() <= 1


def test_the_video_goes_on(embedded: LTXVModel, footage: NDArray[np.uint8]) -> None:
    """New frames are nearer to what the world shows next than the last given frame is."""
    frames = made(embedded, planned(num_frames=33, constant_rate_factor=0), footage)[1:]
    truth = torch.from_numpy(footage[CONTEXT:33]).permute(0, 3, 1, 2) / 255
    frozen = truth * 0 + torch.from_numpy(footage[CONTEXT - 1]).permute(2, 0, 1) / 255
    assert (frames - truth).square().mean() < 0.5 * (frozen - truth).square().mean()


def test_same_plan_same_bits_and_a_stopped_request_goes_on_to_them(
    embedded: LTXVModel, footage: NDArray[np.uint8], tmp_path: Path
) -> None:
    plan = planned(num_frames=121)
    total = len(plan.windows)
    assert total > 2
    whole = made(embedded, plan, footage)
    assert len(whole) == 121 - CONTEXT + 1

    def stop_in_the_second_window(progress: Progress) -> None:
        if (progress.stage, progress.window, progress.step) == ("sampling", 2, 1):
            raise Cancelled

    with pytest.raises(Cancelled):
        made(embedded, plan, footage, resume=Resume(tmp_path), on_progress=stop_in_the_second_window)
    assert [path.name for path in tmp_path.iterdir()] == ["window-000.safetensors"]
    sampled: set[int] = set()
    again = made(
        embedded,
        plan,
        footage,
        resume=Resume(tmp_path),
        on_progress=lambda p: sampled.add(p.window * (p.stage == "sampling")),
    )
    assert torch.equal(whole, again)
    assert sampled - {0} == set(range(2, total + 1))
    assert torch.equal(whole, made(embedded, plan, footage, resume=Resume(tmp_path))), "nothing is left to sample"


CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "prompt": ({}, {"prompt": "a green square moving up over a white plain background"}),
    "negative_prompt": ({}, {"negative_prompt": "a red circle"}),
    "first_pass_num_inference_steps": ({}, {"first_pass_num_inference_steps": 3}),
    "temporal_adain_factor": ({"num_frames": 73}, {"temporal_adain_factor": 1.0, "num_frames": 73}),
    "tone_map_compression_ratio": ({}, {"tone_map_compression_ratio": 1.0}),
    "constant_rate_factor": ({}, {"constant_rate_factor": 51}),
    "frame_rate": ({}, {"frame_rate": 8}),
    "strength": ({"video": {"strength": 0.9}}, {"video": {"strength": 0.3}}),
    "enable_detail_pass": ({}, {"enable_detail_pass": True}),
    "second_pass_num_inference_steps": (
        {"enable_detail_pass": True},
        {"enable_detail_pass": True, "second_pass_num_inference_steps": 12},
    ),
    "second_pass_skip_initial_steps": (
        {"enable_detail_pass": True},
        {"enable_detail_pass": True, "second_pass_skip_initial_steps": 7},
    ),
    "conditioning_type": ({}, {"video": {"conditioning_type": "canny"}}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_parameter_changes_what_is_made(embedded: LTXVModel, footage: NDArray[np.uint8], name: str) -> None:
    if "pass" in name and "first" not in name and embedded.upsampler is None:
        pytest.skip("the embedded model has no upsampler yet")
    one, other = (made(embedded, planned(**{"num_frames": 41} | fields), footage) for fields in CHANGES[name])
    count = min(len(one), len(other))
    assert (one[-count:] - other[-count:]).abs().max() > VISIBLE


def test_097_parameters_change_what_is_made(embedded: LTXVModel, footage: NDArray[np.uint8]) -> None:
    def frames(**fields: Any) -> Tensor:
        plan = planned(ltxv097.ENDPOINT, num_inference_steps=fields.pop("num_inference_steps", 6), **fields)
        return made(embedded, replace(plan, new_frames=24, sampled_frames=41, windows=plan.windows[:1]), footage)

    plain = frames()
    for change in ({"negative_prompt": "a red circle"}, {"num_inference_steps": 3}):
        assert (frames(**change) - plain).abs().max() > VISIBLE


def test_less_strength_keeps_less_of_the_footage(embedded: LTXVModel, footage: NDArray[np.uint8]) -> None:
    truth = torch.from_numpy(footage[:CONTEXT]).permute(0, 3, 1, 2) / 255

    def distance(strength: float) -> float:
        plan = planned(num_frames=41, constant_rate_factor=0, video={"strength": strength})
        return float((made(embedded, plan, footage)[:CONTEXT] - truth).square().mean())

    assert distance(0.99) < distance(0.5) < distance(0.0)


def test_adain_holds_the_first_windows_colours(embedded: LTXVModel, footage: NDArray[np.uint8]) -> None:
    def drift(factor: float) -> float:
        frames = made(embedded, planned(num_frames=161, temporal_adain_factor=factor), footage)
        return float((frames[-24:].mean((0, 2, 3)) - frames[:24].mean((0, 2, 3))).abs().mean())

    assert drift(1.0) < drift(0.0)


def test_tone_mapping_lowers_contrast(embedded: LTXVModel, footage: NDArray[np.uint8]) -> None:
    plain, mapped = (
        made(embedded, planned(num_frames=41, tone_map_compression_ratio=ratio), footage) for ratio in (0.0, 1.0)
    )
    assert mapped.std() < plain.std()


@pytest.mark.parametrize("stage", ["context", "sampling", "frames"])
def test_cancelling_stops_at_every_stage(embedded: LTXVModel, footage: NDArray[np.uint8], stage: str) -> None:
    seen: list[str] = []

    def on_progress(progress: Progress) -> None:
        seen.append(progress.stage)
        if progress.stage == stage:
            raise Cancelled

    with pytest.raises(Cancelled):
        made(embedded, planned(num_frames=41), footage, on_progress=on_progress)
    assert seen.count(stage) == 1


def test_progress_counts_every_step_of_every_window(embedded: LTXVModel, footage: NDArray[np.uint8]) -> None:
    heard: list[Progress] = []
    plan = planned(num_frames=73)
    made(embedded, plan, footage, on_progress=heard.append)
    steps = [(p.window, p.step) for p in heard if p.stage == "sampling"]
    assert steps == [(window + 1, step) for window in range(len(plan.windows)) for step in range(8)]
    assert {p.windows for p in heard if p.stage == "sampling"} == {len(plan.windows)}


def test_evaluations_are_those_the_plan_needs(embedded: LTXVModel, footage: NDArray[np.uint8]) -> None:
    counts: list[int] = []

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            counts.append(1)
            return call(*args, **kwargs)

        return forward

    own = embedded.transformer.forward
    try:
        embedded.transformer.forward = counted(own)
        plan = planned(ltxv097.ENDPOINT, num_inference_steps=10)
        made(embedded, replace(plan, windows=plan.windows[:1], new_frames=24, sampled_frames=41), footage)
    finally:
        embedded.transformer.forward = own
    guidance = plan.passes[0].guidance
    assert len(counts) == sum(guidance.evaluations(level) for level in noise_levels(10).tolist())
