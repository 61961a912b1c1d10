"""The recipe of LTX-2.3 on the embedded model: quality, windows, resuming, cancelling and evaluations."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from longtake.errors import Cancelled
from longtake.families.family import Context, PlanRun
from longtake.families.ltx2.generate import generate
from longtake.families.ltx2.model import LTX2Model
from longtake.media.sound import num_samples
from longtake.models.registry import adapters
from longtake.sampling.resume import NO_RESUME, Resume
from longtake.settings import settings
from longtake.video import Progress, ignore_progress
from recipes.tiny_av.sound import listen
from tests.families.ltx2.generating import (
    CONTEXT,
    NEW,
    RATE,
    SCENE,
    STILL,
    Film,
    Generated,
    error,
    film_of,
    generated,
    hurried,
    planned,
)
from tests.families.progress import assert_share_never_falls


@pytest.fixture(scope="module")
def film() -> Film:
    return film_of(SCENE)


@pytest.fixture(scope="module")
def plain(sounding: LTX2Model, film: Film) -> Generated:
    """The forward continuation of the film by the plain plan."""
    return generated(sounding, planned(film), film)


@pytest.fixture(scope="module")
def backward(sounding: LTX2Model, film: Film) -> Generated:
    """The frames before the film's last ones by the plain plan."""
    return generated(sounding, planned(film, extend_direction="backward", num_context_frames=16), film)


def test_video_and_sound_go_on(plain: Generated, film: Film) -> None:
    """New frames are nearer to the scene's next ones than the last context frame is, and the tone glides on."""
    wanted = film.pixels
    assert plain.frames.shape == (NEW, 3, 64, 64)
    assert error(plain.frames, wanted[CONTEXT:]) < 0.6 * error(wanted[CONTEXT - 1 : CONTEXT], wanted[CONTEXT:])
    heard = listen(plain.new_sound, 48_000)
    true = listen(torch.from_numpy(film.sound)[:, num_samples(CONTEXT, RATE) :], 48_000)
    cents = 1200 * (heard.pitch / true.pitch).log2().abs()
    assert float(cents.nanmedian()) < 150
    assert abs(float(heard.level.nanmedian() - true.level.nanmedian())) < 4


def test_two_threads_generate_the_same_bits(
    sounding: LTX2Model, film: Film, plain: Generated, two_threads: None
) -> None:
    again = generated(sounding, planned(film), film)
    assert torch.equal(again.frames, plain.frames)
    assert torch.equal(again.new_sound, plain.new_sound)


def test_backward_frames_lead_to_the_first_frame(backward: Generated, film: Film) -> None:
    wanted, joint = film.pixels[:NEW], film.pixels[NEW : NEW + 1]
    assert backward.frames.shape == (NEW, 3, 64, 64)
    assert error(backward.frames, wanted) < 0.6 * error(joint, wanted)
    assert error(backward.frames[-1], wanted[-1]) < error(backward.frames[0], wanted[-1])


def test_the_video_ends_with_the_end_image(sounding: LTX2Model, film: Film, plain: Generated) -> None:
    image = np.ascontiguousarray(film.frames[0][:, ::-1])
    wanted = torch.from_numpy(image.copy()).permute(2, 0, 1) / 255
    with_image = generated(sounding, planned(film, end_image_url="data:,x", generate_audio=False), film, image=image)
    assert error(with_image.frames[-1], wanted) < 0.5 * error(plain.frames[-1], wanted)


def test_a_backward_video_begins_with_the_end_image(sounding: LTX2Model, film: Film) -> None:
    image = np.ascontiguousarray(film.frames[0][:, ::-1])
    wanted = torch.from_numpy(image.copy()).permute(2, 0, 1) / 255
    plan = planned(film, extend_direction="backward", num_context_frames=16, generate_audio=False)
    first = generated(sounding, replace(plan, end_image="x"), film, image=image).frames[0]
    assert error(first, wanted) < 0.5 * error(film.pixels[0], wanted)


def test_strength_1_holds_the_sound_and_strength_0_ignores_it(
    sounding: LTX2Model, film: Film, plain: Generated
) -> None:
    length = num_samples(CONTEXT, RATE)
    true = listen(torch.from_numpy(film.sound[:, :length]), 48_000).pitch

    def octaves_off(result: Generated) -> float:
        assert result.sound is not None
        pitch = listen(torch.from_numpy(result.sound[:, :length]), 48_000).pitch
        return float((pitch / true).log2().abs().nanmedian())

    free = octaves_off(generated(sounding, replace(planned(film), audio_strength=0.0), film))
    assert octaves_off(plain) < 0.05
    assert free > 2 * octaves_off(plain) or math.isnan(free)


def test_strength_0_ignores_the_frames(sounding: LTX2Model, film: Film, plain: Generated) -> None:
    free = generated(sounding, replace(planned(film, generate_audio=False), strength=0.0), film)
    wanted = film.pixels[CONTEXT:]
    assert error(plain.frames, wanted) < 0.5 * error(free.frames[-NEW:], wanted)


def zoom(frames: Tensor) -> float:
    """The factor by which the last frame is the first enlarged about its middle: the best of 33 factors."""
    first, last = frames[:1], frames[-1:]
    best = (math.inf, 1.0)
    for factor in torch.linspace(0.7, 1.5, 33).tolist():
        at = torch.tensor([[[1 / factor, 0, 0], [0, 1 / factor, 0]]])
        grid = torch.nn.functional.affine_grid(at, list(first.shape), align_corners=False)
        moved = torch.nn.functional.grid_sample(first, grid, padding_mode="border", align_corners=False)
        best = min(best, (error(moved[..., 16:48, 16:48], last[..., 16:48, 16:48]), factor))
    return best[1]


def shift(frames: Tensor) -> float:
    """The number of pixels by which the last frame is the first moved to the right."""
    first, last = frames[0], frames[-1]
    found = {by: error(torch.roll(first, by, -1)[..., 20:44], last[..., 20:44]) for by in range(-18, 19)}
    return min(found, key=lambda by: found[by])


def test_camera_adapters_move_the_camera(sounding: LTX2Model) -> None:
    if not {"camera_dolly_in", "camera_dolly_left"} <= adapters(sounding.card, settings()).keys():
        pytest.skip("the embedded model's camera adapters are not in the package")
    still = film_of(STILL)

    def frames(**fields: Any) -> Tensor:
        return generated(sounding, planned(still, generate_audio=False, **fields), still).frames

    none, near, left = (frames(camera_lora=name) for name in ("none", "dolly_in", "dolly_left"))
    half = frames(camera_lora="dolly_in", camera_lora_scale=0.5)
    assert zoom(near) > zoom(none) + 0.04
    assert error(half, none) < error(near, none)
    assert shift(left) >= shift(none) + 2, "a camera that moves left moves the picture to the right"
    assert torch.equal(frames(camera_lora="none"), none), "the adapters leave no trace in the weights"


def assert_smooth(result: Generated) -> None:
    """Where one window ends and the next begins, the picture changes as it does elsewhere."""
    steps = (result.frames[1:] - result.frames[:-1]).abs().mean((1, 2, 3))
    joints = np.cumsum([clip.new_frames for clip in result.clips])[:-1] - 1
    assert len(joints)
    for joint in joints.tolist():
        assert steps[joint] < 4 * steps.median()


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_window_continues_the_one_before(sounding: LTX2Model, film: Film, direction: str) -> None:
    plan = planned(film, 40, extend_direction=direction, generate_audio=False)
    result = generated(sounding, plan, film)
    assert len(result.clips) == len(plan.windows) == 2
    assert len(result.frames) == 40
    assert_smooth(result)


DISTILLED = {"distill_lora_first_pass_scale": 0.3, "distill_lora_second_pass_scale": 0.5, "use_multiscale": True}


@pytest.mark.parametrize(
    "fields",
    [{"extend_direction": "forward"}, {"extend_direction": "backward"}, DISTILLED],
    ids=["forward", "backward", "with an adapter whose scale changes between the passes"],
)
def test_a_stopped_request_resumes_to_the_same_bits(
    sounding: LTX2Model, film: Film, tmp_path: Path, fields: dict[str, Any]
) -> None:
    """Frames and sound equal those of a run that was not stopped: the same plan gives the same bits."""
    if fields == DISTILLED and "distill" not in adapters(sounding.card, settings()):
        pytest.skip("the adapters of the embedded model are not in the package")
    plan = replace(planned(film, 26, use_restart_sampling=True, **fields), steps=3)
    assert len(plan.windows) == 2
    reports: list[Progress] = []
    whole = generated(sounding, plan, film, on_progress=reports.append)
    assert_share_never_falls(reports, until={"encode": 0.5, "sampling": 0.8, "sound": 0.5, "frames": 1})
    sampled: list[int] = []

    def stop_in_the_second_window(progress: Progress) -> None:
        if (progress.stage, progress.window, progress.step) == ("sampling", 2, 2):
            raise Cancelled

    def record(progress: Progress) -> None:
        if progress.stage == "sampling":
            sampled.append(progress.window)

    with pytest.raises(Cancelled):
        generated(sounding, plan, film, resume=Resume(tmp_path), on_progress=stop_in_the_second_window)
    assert [path.name for path in tmp_path.iterdir()] == ["window-000.safetensors"]
    resumed = generated(sounding, plan, film, resume=Resume(tmp_path), on_progress=record)
    assert set(sampled) == {2}
    assert torch.equal(whole.frames, resumed.frames)
    assert whole.sound is not None
    assert resumed.sound is not None
    assert np.array_equal(whole.sound, resumed.sound)


def test_cancelling_stops_before_the_next_step(sounding: LTX2Model, film: Film) -> None:
    steps: list[int] = []

    def stop(progress: Progress) -> None:
        if progress.stage == "sampling":
            steps.append(progress.step)
            if progress.step == 2:
                raise Cancelled

    with pytest.raises(Cancelled):
        generated(sounding, planned(film, generate_audio=False), film, on_progress=stop)
    assert steps == [0, 1, 2]


def test_adapters_are_removed_before_the_last_window_is_decoded(
    sounding: LTX2Model, film: Film, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[int | str | None] = []
    own = sounding.vae.decode

    def decode(*given: Any, **named: Any) -> Any:
        events.append("decode")
        return own(*given, **named)

    monkeypatch.setattr(sounding.vae, "decode", decode)
    plan = replace(hurried(planned(film, generate_audio=False, use_multiscale=True)), steps=1)
    run = PlanRun(plan, sounding, settings(), NO_RESUME, ignore_progress, events.append)
    for clip in generate(run, plan.prompt, Context(film.frames[:CONTEXT])):
        list(clip.frames)
    assert events == [0, 1, None, "decode"]


GUIDED: dict[str, Any] = {"video_cfg_scale": 3, "video_stg_scale": 1, "audio_modality_scale": 3}


@pytest.mark.parametrize(
    "fields",
    [{}, GUIDED | {"use_multiscale": True}, GUIDED | {"acceleration": "high"}],
    ids=["plain", "guided in two passes", "accelerated"],
)
def test_the_model_is_evaluated_as_often_as_planned(sounding: LTX2Model, film: Film, fields: dict[str, Any]) -> None:
    plan = hurried(planned(film, **fields))
    rows = 0

    def count(module: Any, inputs: Any, out: Tensor) -> None:
        nonlocal rows
        rows += out.shape[0]

    handle = sounding.transformer.proj_out.register_forward_hook(count)
    try:
        generated(sounding, plan, film)
    finally:
        handle.remove()
    assert rows == plan.evaluations


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_without_a_context_the_new_frames_ignore_the_source(sounding: LTX2Model, film: Film, direction: str) -> None:
    """Only the first window does: a later one continues the one before."""
    plan = planned(film, 48, num_context_frames=0, extend_direction=direction, generate_audio=False)
    assert [window.context_frames for window in plan.windows] == [0, 17 if direction == "forward" else 16]
    result = generated(sounding, plan, film)
    other = generated(sounding, plan, replace(film_of(STILL), scene=film.scene))
    assert len(result.frames) == 48
    assert torch.equal(result.frames, other.frames)
    at_the_source, later = result.clips if direction == "forward" else reversed(result.clips)
    assert (at_the_source.rendition, at_the_source.neighbour) == (None, None)
    assert later.rendition is not None
    assert later.neighbour is not None
    assert_smooth(result)
