"""The recipe of 0.9.x on the embedded model: what it generates, and what each parameter of a request does to it."""

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
from recipes.tiny.world import prompt, sample
from tests.families.progress import assert_share_never_falls
from tests.models.cards import ltxv_card

SCENE = next(
    scene
    for scene in (sample(960_000_000 + i, "straight", (64, 64), 33) for i in range(1000))
    if math.hypot(*scene.things[0].velocity) > 0.9
)
CONTEXT = 17
VISIBLE = 1 / 255
"""A difference of frames (0..1) above which a parameter has an effect."""


@pytest.fixture(scope="module")
def film() -> NDArray[np.uint8]:
    """33 frames [T, 64, 64, 3] of one object in straight motion."""
    frames = ((render([SCENE])[0].permute(1, 2, 3, 0) + 1) * 127.5).round().byte().numpy()
    return np.ascontiguousarray(frames)


def planned(endpoint: Endpoint[Any, Any] = ltxv098.ENDPOINT, **fields: Any) -> LTXVPlan:
    """The plan of a request that continues CONTEXT frames of 64x64, at that size."""
    video = {"video_url": "x"} | fields.pop("video", {})
    request = parse(endpoint.Request, {"prompt": prompt(SCENE), "num_frames": 33, **fields, "video": video})
    source = VideoInfo("mp4", "h264", 64, 64, Fraction(24), CONTEXT)
    plan = endpoint.plan(endpoint.options(request, source), source, ltxv_card("ltxv-tiny"), 1, {})
    assert isinstance(plan, LTXVPlan)
    canvases = tuple(replace(p, canvas=(64 * 2**i, 64 * 2**i)) for i, p in enumerate(plan.passes))
    return replace(plan, width=64, height=64, passes=canvases)


def generated(
    model: LTXVModel,
    plan: LTXVPlan,
    film: NDArray[np.uint8],
    *,
    resume: Resume = NO_RESUME,
    on_progress: OnProgress = ignore_progress,
) -> Tensor:
    """All generated frames [t, 3, 64, 64] in 0..1, after the rendition of the last context frame if the clip has it."""
    run = PlanRun(plan, model, settings(), resume, on_progress)
    [clip] = generate(run, plan.prompt, Context(film[:CONTEXT]))
    assert (clip.rendition is not None) == plan.keeps_source
    assert (clip.new_frames, clip.context_frames) == (plan.new_frames, plan.context_frames)
    return torch.cat([*([] if clip.rendition is None else [clip.rendition[None]]), *clip.frames])


Generate = Callable[[dict[str, Any]], Tensor]


@pytest.fixture(scope="module")
def frames_of(embedded: LTXVModel, film: NDArray[np.uint8]) -> Generate:
    """Generates by the fields of a request to 0.9.8, each request once."""
    cache: dict[str, Tensor] = {}

    def cached(fields: dict[str, Any]) -> Tensor:
        key = repr(sorted(fields.items()))
        if key not in cache:
            cache[key] = generated(embedded, planned(**fields), film)
        return cache[key]

    return cached


def test_frames_have_the_planned_number_and_size(frames_of: Generate) -> None:
    frames = frames_of({})
    assert frames.shape == (16 + 1, 3, 64, 64)
    assert frames.min() >= 0
    assert frames.max() <= 1


def test_two_threads_generate_the_same_bits(
    frames_of: Generate, embedded: LTXVModel, film: NDArray[np.uint8], two_threads: None
) -> None:
    assert torch.equal(generated(embedded, planned(), film), frames_of({}))


def test_adapters_are_removed_before_the_last_window_is_decoded(
    embedded: LTXVModel, film: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[int | str | None] = []
    own = embedded.vae.decode

    def decode(*given: Any, **named: Any) -> Any:
        events.append("decode")
        return own(*given, **named)

    monkeypatch.setattr(embedded.vae, "decode", decode)
    plan = planned(num_frames=57, first_pass_num_inference_steps=2)
    assert len(plan.windows) > 1
    run = PlanRun(plan, embedded, settings(), NO_RESUME, ignore_progress, events.append)
    for clip in generate(run, plan.prompt, Context(film[:CONTEXT])):
        list(clip.frames)
    assert [event for event in events if event != "decode"] == [0] * len(plan.windows) + [None]
    assert events[-1] == "decode"


def test_the_video_goes_on(frames_of: Generate, film: NDArray[np.uint8]) -> None:
    """New frames are nearer to the scene's next ones than the last context frame is."""
    frames = frames_of({"constant_rate_factor": 0})[1:]
    true = torch.from_numpy(film).permute(0, 3, 1, 2) / 255
    frozen = (true[CONTEXT - 1] - true[CONTEXT:]).square().mean()
    assert (frames - true[CONTEXT:]).square().mean() < 0.5 * frozen


def test_a_stopped_request_resumes_to_the_same_bits(
    embedded: LTXVModel, film: NDArray[np.uint8], tmp_path: Path
) -> None:
    """The frames equal those of a run that was not stopped: the same plan gives the same bits."""
    plan = planned(num_frames=89, first_pass_num_inference_steps=3)
    total = len(plan.windows)
    assert total > 2
    reports: list[Progress] = []
    whole = generated(embedded, plan, film, on_progress=reports.append)
    assert len(whole) == 89 - CONTEXT + 1
    assert_share_never_falls(reports, until={"encode": 0, "sampling": 0.8, "frames": 1})

    def stop_in_the_second_window(progress: Progress) -> None:
        if (progress.stage, progress.window, progress.step) == ("sampling", 2, 1):
            raise Cancelled

    with pytest.raises(Cancelled):
        generated(embedded, plan, film, resume=Resume(tmp_path), on_progress=stop_in_the_second_window)
    assert [path.name for path in tmp_path.iterdir()] == ["window-000.safetensors"]
    sampled: list[int] = []

    def record(progress: Progress) -> None:
        if progress.stage == "sampling":
            sampled.append(progress.window)

    assert torch.equal(whole, generated(embedded, plan, film, resume=Resume(tmp_path), on_progress=record))
    assert set(sampled) == set(range(2, total + 1))
    sampled.clear()
    assert torch.equal(whole, generated(embedded, plan, film, resume=Resume(tmp_path), on_progress=record))
    assert not sampled


TWO_PASSES = {
    "enable_detail_pass": True,
    "first_pass_num_inference_steps": 2,
    "second_pass_num_inference_steps": 4,
    "second_pass_skip_initial_steps": 2,
}

CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "prompt": ({}, {"prompt": "a green square moving up over a white plain background"}),
    "negative_prompt": ({}, {"negative_prompt": "a red circle"}),
    "first_pass_num_inference_steps": ({}, {"first_pass_num_inference_steps": 3}),
    "temporal_adain_factor": ({"num_frames": 65}, {"temporal_adain_factor": 1.0, "num_frames": 65}),
    "tone_map_compression_ratio": ({}, {"tone_map_compression_ratio": 1.0}),
    "constant_rate_factor": ({}, {"constant_rate_factor": 51}),
    "frame_rate": ({}, {"frame_rate": 8}),
    "strength": ({"video": {"strength": 0.9}}, {"video": {"strength": 0.3}}),
    "enable_detail_pass": ({"first_pass_num_inference_steps": 2}, TWO_PASSES),
    "second_pass_num_inference_steps": (TWO_PASSES, TWO_PASSES | {"second_pass_num_inference_steps": 5}),
    "second_pass_skip_initial_steps": (TWO_PASSES, TWO_PASSES | {"second_pass_skip_initial_steps": 3}),
    "conditioning_type": ({}, {"video": {"conditioning_type": "canny"}}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_parameter_changes_the_frames(frames_of: Generate, name: str) -> None:
    one, other = (frames_of(fields) for fields in CHANGES[name])
    count = min(len(one), len(other))
    assert (one[-count:] - other[-count:]).abs().max() > VISIBLE


def short(plan: LTXVPlan) -> LTXVPlan:
    """The plan cut to 16 new frames in one window: 0.9.7 always generates 121."""
    return replace(plan, windows=plan.windows[:1], new_frames=16, sampled_frames=33)


def test_parameters_of_097_change_the_frames(embedded: LTXVModel, film: NDArray[np.uint8]) -> None:
    def frames(**fields: Any) -> Tensor:
        return generated(embedded, short(planned(ltxv097.ENDPOINT, **{"num_inference_steps": 4} | fields)), film)

    plain = frames()
    for change in ({"negative_prompt": "a red circle"}, {"num_inference_steps": 2}):
        assert (frames(**change) - plain).abs().max() > VISIBLE


def test_less_strength_holds_less_of_the_context(frames_of: Generate, film: NDArray[np.uint8]) -> None:
    true = torch.from_numpy(film[:CONTEXT]).permute(0, 3, 1, 2) / 255

    def distance(strength: float) -> float:
        frames = frames_of({"constant_rate_factor": 0, "video": {"strength": strength}})
        return float((frames[:CONTEXT] - true).square().mean())

    assert distance(0.99) < distance(0.5) < distance(0.0)


def test_adain_holds_the_first_windows_colours(frames_of: Generate) -> None:
    other = "a black bar rotating over a yellow stripes background, camera pans left"

    def drift(factor: float) -> float:
        frames = frames_of({"prompt": other, "num_frames": 89, "temporal_adain_factor": factor})
        return float((frames[-24:].mean((0, 2, 3)) - frames[:24].mean((0, 2, 3))).abs().mean())

    assert drift(1.0) < drift(0.5) < drift(0.0), "the prompt, which is of another scene, changes the colours"


def test_tone_mapping_lowers_contrast(frames_of: Generate) -> None:
    assert frames_of({"tone_map_compression_ratio": 1.0}).std() < frames_of({}).std()


@pytest.mark.parametrize("stage", ["encode", "sampling", "frames"])
def test_cancelling_stops_at_every_stage(embedded: LTXVModel, film: NDArray[np.uint8], stage: str) -> None:
    stages: list[str] = []

    def on_progress(progress: Progress) -> None:
        stages.append(progress.stage)
        if progress.stage == stage:
            raise Cancelled

    with pytest.raises(Cancelled):
        generated(embedded, planned(first_pass_num_inference_steps=2), film, on_progress=on_progress)
    assert stages.count(stage) == 1


def test_progress_counts_every_step_of_every_window(embedded: LTXVModel, film: NDArray[np.uint8]) -> None:
    reports: list[Progress] = []
    plan = planned(num_frames=65, first_pass_num_inference_steps=3)
    assert len(plan.windows) == 2
    generated(embedded, plan, film, on_progress=reports.append)
    sampling = [report for report in reports if report.stage == "sampling"]
    assert sampling == [Progress("sampling", step, 3, window, 2) for window in (1, 2) for step in range(3)]


def test_the_model_is_evaluated_as_often_as_planned(embedded: LTXVModel, film: NDArray[np.uint8]) -> None:
    count = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            return call(*args, **kwargs)

        return forward

    plan = short(planned(ltxv097.ENDPOINT, num_inference_steps=10))
    own = embedded.transformer.forward
    try:
        embedded.transformer.forward = counted(own)
        generated(embedded, plan, film)
    finally:
        embedded.transformer.forward = own
    assert count == plan.evaluations == sum(map(plan.passes[0].guidance.evaluations, noise_levels(10).tolist()))
    assert count > 10, "some steps need several evaluations"
