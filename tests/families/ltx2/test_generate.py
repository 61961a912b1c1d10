"""The recipe of picture and sound on the embedded model: what comes out, and what each parameter does to it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from longtake.endpoints import ltx23
from longtake.endpoints.validation import parse
from longtake.errors import Cancelled
from longtake.families.family import Context, GeneratedClip, PlanRun
from longtake.families.ltx2.generate import generate
from longtake.families.ltx2.model import LTX2Model
from longtake.families.ltx2.plan import LTX2Plan
from longtake.media.sound import Samples, num_samples
from longtake.models.loras import LoraCache, applied, load_adapters
from longtake.models.registry import adapters
from longtake.sampling.resume import NO_RESUME, Resume
from longtake.settings import settings
from longtake.video import OnProgress, Progress, VideoInfo, ignore_progress
from recipes.tiny.render import render
from recipes.tiny.world import Scene, sample
from recipes.tiny.world import prompt as words_of
from recipes.tiny_av.sound import listen, sound
from tests.models.cards import ltx2_card

RATE = Fraction(24)
CONTEXT, NEW = 17, 16
VISIBLE, AUDIBLE = 0.05 / 255, 1e-3
"""Mean differences that are an effect, and not rounding."""
PLAIN = {
    "num_inference_steps": 8,
    "use_multiscale": False,
    "use_restart_sampling": False,
    "video_cfg_scale": 1,
    "video_stg_scale": 0,
    "video_modality_scale": 1,
    "audio_cfg_scale": 1,
    "audio_modality_scale": 1,
    "distill_lora_first_pass_scale": 0,
    "distill_lora_second_pass_scale": 0,
}
"""One scale, one prediction a step: what the tests about other things start from."""


def scene_of(kind: Any, seed: int, good: Callable[[Scene], bool]) -> Scene:
    scenes = (sample(seed + i, kind, (64, 64), CONTEXT + NEW) for i in range(2000))
    return next(scene for scene in scenes if good(scene))


SCENE = scene_of(
    "straight",
    961_000_000,
    lambda scene: abs(scene.things[0].velocity[1]) > 0.8 and scene.texture in ("plain", "clouds"),
)
"""Moves fast up or down: so its tone glides."""
STILL = scene_of("still", 962_000_000, lambda scene: scene.texture == "clouds")


@dataclass(frozen=True)
class Footage:
    """A whole scene: `frames` [T, 64, 64, 3] and its sound [2, n]."""

    scene: Scene
    frames: NDArray[np.uint8]
    sound: Samples


def filmed(scene: Scene) -> Footage:
    frames = ((render([scene])[0].permute(1, 2, 3, 0) + 1) * 127.5).round().byte().numpy()
    return Footage(scene, np.ascontiguousarray(frames), sound(scene, len(frames), RATE, 48_000).numpy())


@pytest.fixture(scope="module")
def footage() -> Footage:
    return filmed(SCENE)


def planned(footage: Footage, new: int = NEW, **fields: Any) -> LTX2Plan:
    """The plan of a request for `new` frames that go on from the first (backward: lead to the last) CONTEXT frames of
    a scene, written at its own size."""
    given = {"prompt": words_of(footage.scene), "video_url": "x", "num_context_frames": CONTEXT}
    request = parse(ltx23.Request, given | PLAIN | fields)
    source = VideoInfo("mp4", "h264", 64, 64, RATE, CONTEXT)
    options = replace(ltx23.ENDPOINT.options(request, source), new_frames=new)
    plan = ltx23.ENDPOINT.plan(options, source, ltx2_card("ltx2-tiny"), request.seed or 1, {})
    assert isinstance(plan, LTX2Plan)
    canvases = tuple((64 * 2**i, 64 * 2**i) for i in range(plan.num_passes))
    return replace(plan, width=64, height=64, canvases=canvases)


@dataclass(frozen=True)
class Made:
    """New frames [t, 3, 64, 64] in 0..1, the sound of the piece that plays first as it came [2, n], and the pieces."""

    frames: Tensor
    sound: Samples | None
    pieces: list[GeneratedClip]


def made(
    models: LTX2Model,
    plan: LTX2Plan,
    footage: Footage,
    *,
    image: NDArray[np.uint8] | None = None,
    resume: Resume = NO_RESUME,
    on_progress: OnProgress = ignore_progress,
) -> Made:
    start = NEW if plan.new_first else 0
    first, last = (num_samples(frame, RATE) for frame in (start, start + CONTEXT))
    if plan.new_first:
        frames, heard = footage.frames[-CONTEXT:], footage.sound[:, -(last - first) :]
    else:
        frames, heard = footage.frames[:CONTEXT], footage.sound[:, :last]
    context = Context(frames if plan.context_frames else frames[:0], heard, image)
    loaded = load_adapters(plan.adapters, models.card, settings(), LoraCache(10**9))
    chunks: list[Tensor] = []
    pieces: list[GeneratedClip] = []
    with applied(models.transformer, loaded) as set_pass:
        run = PlanRun(plan, models, settings(), resume, on_progress, set_pass)
        for piece in generate(run, plan.prompt, context):
            pieces.append(piece)
            chunks += piece.frames
    return Made(torch.cat(chunks), pieces[0].sound, pieces)


def truth(footage: Footage) -> Tensor:
    return torch.from_numpy(footage.frames).permute(0, 3, 1, 2) / 255


def error(one: Tensor, other: Tensor) -> float:
    return float((one - other).square().mean())


def new_sound(made: Made) -> Tensor:
    """The sound after the context, forward."""
    assert made.sound is not None
    return torch.from_numpy(made.sound)[:, num_samples(CONTEXT, RATE) : num_samples(CONTEXT + NEW, RATE)]


def test_picture_and_sound_go_on(sounding: LTX2Model, footage: Footage) -> None:
    """New frames are nearer to what the world shows next than the last given frame is; the tone glides on with them."""
    got = made(sounding, planned(footage), footage)
    wanted = truth(footage)
    assert got.frames.shape == (NEW, 3, 64, 64)
    assert error(got.frames, wanted[CONTEXT:]) < 0.6 * error(wanted[CONTEXT - 1 : CONTEXT], wanted[CONTEXT:])
    heard, told = (
        listen(wave, 48_000)
        for wave in (new_sound(got), torch.from_numpy(footage.sound)[:, num_samples(CONTEXT, RATE) :])
    )
    cents = 1200 * (heard.pitch / told.pitch).log2().abs()
    assert float(cents.nanmedian()) < 150
    assert abs(float(heard.level.nanmedian() - told.level.nanmedian())) < 4


def test_backward_leads_into_the_first_frame(sounding: LTX2Model, footage: Footage) -> None:
    got = made(sounding, planned(footage, extend_direction="backward", num_context_frames=16), footage)
    wanted = truth(footage)[:NEW]
    assert got.frames.shape == (NEW, 3, 64, 64)
    frozen = truth(footage)[NEW : NEW + 1]
    assert error(got.frames, wanted) < 0.6 * error(frozen, wanted)
    assert error(got.frames[-1], wanted[-1]) < error(got.frames[0], wanted[-1])


def test_the_end_image_is_reached(sounding: LTX2Model, footage: Footage) -> None:
    image = np.ascontiguousarray(footage.frames[0][:, ::-1])
    wanted = torch.from_numpy(image.copy()).permute(2, 0, 1) / 255
    plan = planned(footage, end_image_url="data:,x")
    with_image, without = made(sounding, plan, footage, image=image), made(sounding, plan, footage)
    assert error(with_image.frames[-1], wanted) < 0.5 * error(without.frames[-1], wanted)
    backward = replace(planned(footage, extend_direction="backward", num_context_frames=16), end_image="x")
    first = made(sounding, backward, footage, image=image).frames[0]
    assert error(first, wanted) < 0.5 * error(truth(footage)[0], wanted)


def test_strength_keeps_and_forgets(sounding: LTX2Model, footage: Footage) -> None:
    """At 1 the context's sound comes back as it was; at 0 the model knows nothing of it."""
    plan = planned(footage)
    length = num_samples(CONTEXT, RATE)
    rendered = {}
    for strength in (1.0, 0.0):
        got = made(sounding, replace(plan, audio_strength=strength), footage)
        assert got.sound is not None
        rendered[strength] = listen(torch.from_numpy(got.sound[:, :length]), 48_000).pitch
    told = listen(torch.from_numpy(footage.sound[:, :length]), 48_000).pitch
    off = {strength: float((pitch / told).log2().abs().nanmedian()) for strength, pitch in rendered.items()}
    assert off[1.0] < 0.05
    assert off[0.0] > 2 * off[1.0] or math.isnan(off[0.0])
    kept, forgotten = (made(sounding, replace(plan, strength=strength), footage).frames for strength in (1.0, 0.0))
    wanted = truth(footage)[CONTEXT:]
    assert error(kept, wanted) < 0.5 * error(forgotten[-NEW:], wanted)


def zoom(frames: Tensor) -> float:
    """By how much the last frame is the first enlarged about its middle: the best of some factors, over the ground."""
    first, last = frames[:1], frames[-1:]
    best = (math.inf, 1.0)
    for factor in torch.linspace(0.7, 1.5, 33).tolist():
        at = torch.tensor([[[1 / factor, 0, 0], [0, 1 / factor, 0]]])
        grid = torch.nn.functional.affine_grid(at, list(first.shape), align_corners=False)
        moved = torch.nn.functional.grid_sample(first, grid, padding_mode="border", align_corners=False)
        best = min(best, (error(moved[..., 16:48, 16:48], last[..., 16:48, 16:48]), factor))
    return best[1]


def shift(frames: Tensor) -> float:
    """By how many pixels the last frame is the first moved to the right."""
    first, last = frames[0], frames[-1]
    found = {by: error(torch.roll(first, by, -1)[..., 20:44], last[..., 20:44]) for by in range(-18, 19)}
    return min(found, key=lambda by: found[by])


def test_camera_adapters_move_the_camera(sounding: LTX2Model) -> None:
    still = filmed(STILL)
    here = adapters(sounding.card, settings())
    if not {"camera_dolly_in", "camera_dolly_left"} <= here.keys():
        pytest.skip("the embedded model's camera adapters are not in the package")
    none = made(sounding, planned(still, camera_lora="none"), still).frames
    near = made(sounding, planned(still, camera_lora="dolly_in"), still).frames
    half = made(sounding, planned(still, camera_lora="dolly_in", camera_lora_scale=0.5), still).frames
    left = made(sounding, planned(still, camera_lora="dolly_left"), still).frames
    assert zoom(near) > zoom(none) + 0.04
    assert error(half, none) < error(near, none)
    assert shift(left) >= shift(none) + 2, "a camera that moves left moves the picture to the right"


CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "prompt": ({}, {"prompt": "a green square moving up over a white plain background"}),
    "negative_prompt": ({"video_cfg_scale": 9}, {"video_cfg_scale": 9, "negative_prompt": "a red circle"}),
    "seed": ({}, {"seed": 2}),
    "num_inference_steps": ({}, {"num_inference_steps": 12}),
    "scheduler": ({}, {"scheduler": "linear_quadratic"}),
    "use_restart_sampling": ({}, {"use_restart_sampling": True}),
    "gradient_estimation_gamma": ({}, {"gradient_estimation_gamma": 2}),
    "acceleration": ({}, {"acceleration": "full"}),
    "use_multiscale": ({}, {"use_multiscale": True}),
    "num_context_frames": ({}, {"num_context_frames": 9}),
    "video_strength": ({"video_strength": 0.9}, {"video_strength": 0.3}),
    "video_cfg_scale": ({}, {"video_cfg_scale": 9}),
    "video_stg_scale": ({}, {"video_stg_scale": 4}),
    "video_modality_scale": ({}, {"video_modality_scale": 9}),
    "video_rescaling_scale": (
        {"video_cfg_scale": 9, "video_rescaling_scale": 0},
        {"video_cfg_scale": 9, "video_rescaling_scale": 1},
    ),
}


@pytest.fixture(scope="module")
def remembered(sounding: LTX2Model, footage: Footage) -> Callable[[dict[str, Any]], Made]:
    """What a request makes, each once."""
    known: dict[str, Made] = {}

    def make(fields: dict[str, Any]) -> Made:
        key = repr(sorted(fields.items()))
        if key not in known:
            known[key] = made(sounding, planned(footage, **fields), footage)
        return known[key]

    return make


@pytest.mark.parametrize("name", CHANGES)
def test_parameters_change_the_picture(remembered: Callable[[dict[str, Any]], Made], name: str) -> None:
    one, other = (remembered(fields).frames[-NEW:] for fields in CHANGES[name])
    assert (one - other).abs().mean() > VISIBLE, name


HEARD: dict[str, dict[str, Any]] = {
    "audio_cfg_scale": {"audio_cfg_scale": 12},
    "audio_stg_scale": {"audio_stg_scale": 6},
    "audio_modality_scale": {"audio_modality_scale": 9},
    "audio_strength": {"audio_strength": 0.3},
}


@pytest.mark.parametrize("name", HEARD)
def test_parameters_change_the_sound(remembered: Callable[[dict[str, Any]], Made], name: str) -> None:
    one, other = new_sound(remembered({})), new_sound(remembered(HEARD[name]))
    assert (one - other).abs().mean() > AUDIBLE, name


def test_guidance_of_one_modality_reaches_the_other_only_through_it(
    remembered: Callable[[dict[str, Any]], Made],
) -> None:
    """STG of the sound disturbs the sound's own attention: the picture changes less by it than by its own."""
    base = remembered({}).frames
    by_sound, by_picture = (
        error(remembered(fields).frames, base) for fields in ({"audio_stg_scale": 6}, {"video_stg_scale": 6})
    )
    assert by_sound < by_picture


def test_without_sound_none_is_made(sounding: LTX2Model, footage: Footage) -> None:
    assert made(sounding, planned(footage, generate_audio=False), footage).sound is None


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_windows_go_on_from_what_was_made(sounding: LTX2Model, footage: Footage, direction: str) -> None:
    """Beyond one window the next begins where the last ended: there the picture moves as it does elsewhere."""
    plan = planned(footage, 60, extend_direction=direction)
    assert len(plan.windows) > 1
    got = made(sounding, plan, footage)
    assert len(got.frames) == 60
    steps = (got.frames[1:] - got.frames[:-1]).abs().mean((1, 2, 3))
    sizes = [extension.new_frames for extension in plan.windows]
    joints = np.cumsum(sizes if direction == "forward" else sizes[::-1])[:-1] - 1
    for joint in joints.tolist():
        assert steps[joint] < 4 * steps.median()


def test_same_plan_same_bits(sounding: LTX2Model, footage: Footage) -> None:
    plan = planned(footage, 40, use_restart_sampling=True)
    one, other = (made(sounding, plan, footage) for _ in range(2))
    assert torch.equal(one.frames, other.frames)
    assert one.sound is not None
    assert other.sound is not None
    assert np.array_equal(one.sound, other.sound)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_stopped_request_goes_on_to_the_same_bits(
    sounding: LTX2Model, footage: Footage, tmp_path: Path, direction: str
) -> None:
    plan = planned(footage, 40, extend_direction=direction)
    whole = made(sounding, plan, footage)

    def stop_in_the_second_window(progress: Progress) -> None:
        if (progress.stage, progress.window, progress.step) == ("sampling", 2, 3):
            raise Cancelled

    with pytest.raises(Cancelled):
        made(sounding, plan, footage, resume=Resume(tmp_path), on_progress=stop_in_the_second_window)
    assert [path.name for path in tmp_path.iterdir()] == ["window-000.safetensors"]
    again = made(sounding, plan, footage, resume=Resume(tmp_path))
    assert torch.equal(whole.frames, again.frames)
    assert whole.sound is not None
    assert again.sound is not None
    assert np.array_equal(whole.sound, again.sound)


def test_it_stops_at_the_next_step(sounding: LTX2Model, footage: Footage) -> None:
    seen: list[Progress] = []

    def stop(progress: Progress) -> None:
        seen.append(progress)
        if progress.stage == "sampling" and progress.step == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        made(sounding, planned(footage), footage, on_progress=stop)
    assert [progress.step for progress in seen if progress.stage == "sampling"] == [0, 1, 2]


def test_evaluations_are_those_the_plan_says(sounding: LTX2Model, footage: Footage) -> None:
    scales: dict[str, Any] = {"video_cfg_scale": 3, "video_stg_scale": 1, "audio_modality_scale": 3}
    for fields in ({}, scales, scales | {"use_multiscale": True}, scales | {"acceleration": "high"}):
        plan = planned(footage, **fields)
        rows = 0

        def count(module: Any, given: Any, out: Tensor) -> None:
            nonlocal rows
            rows += out.shape[0]

        handle = sounding.transformer.proj_out.register_forward_hook(count)
        try:
            made(sounding, plan, footage)
        finally:
            handle.remove()
        assert rows == plan.evaluations


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_without_a_context_the_new_part_is_a_cut(sounding: LTX2Model, footage: Footage, direction: str) -> None:
    """It knows nothing of the source; a later window goes on from the one before it, as always."""
    plan = planned(footage, 60, num_context_frames=0, extend_direction=direction)
    assert [extension.context_frames for extension in plan.windows][:2] == [0, 17 if direction == "forward" else 16]
    got = made(sounding, plan, footage)
    other = made(sounding, plan, replace(filmed(STILL), scene=footage.scene))
    assert len(got.frames) == 60
    assert torch.equal(got.frames, other.frames)
    at_the_joint, *later = got.pieces if direction == "forward" else reversed(got.pieces)
    assert (at_the_joint.rendition, at_the_joint.neighbour) == (None, None)
    assert all(piece.rendition is not None and piece.neighbour is not None for piece in later)
    steps = (got.frames[1:] - got.frames[:-1]).abs().mean((1, 2, 3))
    joints = np.cumsum([piece.new_frames for piece in got.pieces])[:-1] - 1
    for joint in joints.tolist():
        assert steps[joint] < 4 * steps.median()
