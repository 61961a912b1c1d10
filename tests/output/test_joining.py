"""The colour match at the joint, and the order of source and new frames. Whole files: tests/test_runner_*.py."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from longtake.endpoints import ltx23
from longtake.families.family import GeneratedClip
from longtake.media.sound import FADE_SAMPLES, Samples, num_samples
from longtake.output.background import Background
from longtake.output.carrying import Carrying, LastingSound
from longtake.output.joining import COLOUR_FADE_FRAMES, NEAR_FRAMES, Joiner, corrected_frames, correction
from longtake.output.soundtrack import append_sound
from longtake.video import Progress, Span, VideoInfo, ignore_progress
from tests.endpoints.planning import plan_of

RATE, SIDE, SHOWN, NEW = Fraction(24), 8, 50, 32
RENDITION = torch.full((3, SIDE, SIDE), 0.4)
JOINT = np.full((SIDE, SIDE, 3), 0.5 * 255, np.float32).round().astype(np.uint8)


def plan(**fields: Any) -> Any:
    source = VideoInfo("mp4", "h264", SIDE, SIDE, RATE, SHOWN)
    return plan_of(ltx23.ENDPOINT, {"num_frames": 25 + NEW, "generate_audio": False, **fields}, source)


def chunks(value: float = 0.4, count: int = NEW) -> Iterator[Tensor]:
    """Grey frames [t, 3, H, W] in two chunks, after an empty one."""
    for length in (0, 10, count - 10):
        yield torch.full((length, 3, SIDE, SIDE), value)


def levels(clip: GeneratedClip, chosen: Any) -> list[float]:
    correct = correction(clip, JOINT, None, 0)
    return [float(frame.mean()) for chunk in corrected_frames(clip, chosen, correct) for frame in chunk]


def test_the_colour_cast_is_removed_at_the_joint_and_fades_back() -> None:
    found = levels(GeneratedClip(chunks(), NEW, 25, rendition=RENDITION), plan())
    assert found[0] == pytest.approx(0.5, abs=0.01)
    assert found[:COLOUR_FADE_FRAMES] == sorted(found[:COLOUR_FADE_FRAMES], reverse=True)
    assert found[COLOUR_FADE_FRAMES:] == pytest.approx([0.4] * (NEW - COLOUR_FADE_FRAMES))


def test_backward_the_joint_is_after_the_new_frames() -> None:
    chosen = plan(extend_direction="backward")
    found = levels(GeneratedClip(chunks(), NEW, chosen.context_frames, rendition=RENDITION), chosen)
    assert found[-1] == pytest.approx(0.5, abs=0.01)
    assert found[0] == pytest.approx(0.4)


def test_a_neighbour_of_an_earlier_clip_takes_the_source_s_place() -> None:
    neighbour = np.full((SIDE, SIDE, 3), 153, np.uint8)
    clip = GeneratedClip(chunks(), NEW, 25, rendition=RENDITION, neighbour=neighbour)
    assert levels(clip, plan())[0] == pytest.approx(0.6)


def test_without_a_rendition_frames_are_unchanged() -> None:
    assert levels(GeneratedClip(chunks(), NEW, 25), plan()) == pytest.approx([0.4] * NEW)


@dataclass
class Frames:
    """A source of grey frames, and a writer that records the brightness of each frame, and the sound."""

    levels: list[float] = field(default_factory=list)
    samples: int = 0
    sounds: list[Samples] = field(default_factory=list)

    def frames(self, span: Span, size: tuple[int, int], pixel_format: str = "rgb24") -> Iterator[Any]:
        for number in range(span.start, span.stop):
            yield np.full((1, size[1], size[0], 3), number, np.uint8)

    def write(self, frames: Any) -> None:
        self.levels += [float(frame.mean()) for frame in frames]

    def write_source(self, frames: Any, check: Any) -> None:
        self.write(frames)

    def write_sound(self, samples: Any) -> None:
        self.samples += samples.shape[1]
        self.sounds.append(samples)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_source_and_new_frames_are_written_in_playing_order(direction: str) -> None:
    chosen, recorder = plan(extend_direction=direction), Frames()
    source: Any = recorder
    reports: list[Progress] = []
    with Background() as background:
        joiner = Joiner(chosen, source, None, recorder, Carrying(), reports.append, background)
        context = joiner.start()
        assert len(context) == chosen.context_frames
        new = GeneratedClip(chunks(0.4, chosen.new_frames), chosen.new_frames, chosen.context_frames)
        joiner.add(iter([new]), context)
        joiner.finish()
    own, made = [float(number) for number in range(SHOWN)], [0.4 * 255] * chosen.new_frames
    assert recorder.levels == pytest.approx([*made, *own] if direction == "backward" else [*own, *made])
    assert recorder.samples == round(chosen.num_frames * 2000)
    written = [report for report in reports if report.stage == "writing"]
    assert [report.step for report in written][:3] == [8, 10, 18], "the first chunk has 10 frames, a piece at most 8"
    assert (written[-1].step, {report.steps for report in written}) == (chosen.new_frames, {chosen.new_frames})


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_detail_is_carried_from_more_frames_than_the_model_sees(direction: str) -> None:
    chosen, source, reports = plan(extend_direction=direction), Frames(), list[Progress]()
    with Background() as background:
        joiner = Joiner(chosen, cast(Any, source), None, cast(Any, source), Carrying(True), reports.append, background)
        near = joiner.start()
        seen = joiner.seen(near)
        joiner.finish()
    numbers, count = list(range(SHOWN)), chosen.context_frames
    backward = direction == "backward"
    assert near[:, 0, 0, 0].tolist() == (numbers[:NEAR_FRAMES] if backward else numbers[-NEAR_FRAMES:])
    assert seen[:, 0, 0, 0].tolist() == (numbers[:count] if backward else numbers[-count:])


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize(
    ("knows", "has_track", "is_silent"), [(True, False, False), (False, False, True), (True, True, True)]
)
def test_the_model_s_sound_for_a_source_without_one_is_heard_where_it_knows_the_picture(
    direction: str, knows: bool, has_track: bool, is_silent: bool
) -> None:
    chosen, recorder = plan(extend_direction=direction, generate_audio=True), Frames()
    own, new = num_samples(SHOWN, RATE), num_samples(NEW, RATE)
    source: Any = recorder
    track = np.zeros((2, own), np.float32) if has_track else None
    carrying = Carrying(sound=LastingSound.of(track))
    rendition = torch.full((3, SIDE, SIDE), (0 if direction == "backward" else SHOWN - 1) / 255 + (0 if knows else 0.7))
    parts = [GeneratedClip(chunks(count=NEW // 2), NEW // 2, 25, rendition) for _ in range(2)]
    clips = [replace(part, sound=np.full((2, num_samples(25 + NEW // 2, RATE)), 0.1, np.float32)) for part in parts]
    with Background() as background:
        joiner = Joiner(chosen, source, track, recorder, carrying, ignore_progress, background)
        assert joiner.add(iter(clips), joiner.start()) == is_silent
        joiner.finish()
    heard = np.concatenate(recorder.sounds, axis=1)
    made = heard[:, :new] if direction == "backward" else heard[:, own:]
    assert heard.shape == (2, own + new)
    assert made.any() != is_silent


def test_new_sound_is_joined_to_the_end_of_the_source_s_sound_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, recorder, lengths = plan(generate_audio=True), Frames(), list[int]()
    source: Any = recorder

    def noise(frames: int, seed: int) -> Samples:
        return np.random.default_rng(seed).normal(0, 0.1, (2, num_samples(frames, RATE))).astype(np.float32)

    def counted(end: Samples, *arguments: Any) -> Samples:
        lengths.append(end.shape[1])
        return append_sound(end, *arguments)

    monkeypatch.setattr("longtake.output.soundtrack.append_sound", counted)
    part = NEW // 2
    clips = [GeneratedClip(chunks(count=part), part, 25, sound=noise(25 + part, seed)) for seed in (1, 2)]
    with Background() as background:
        joiner = Joiner(chosen, source, noise(SHOWN, 0), recorder, Carrying(), ignore_progress, background)
        joiner.add(iter(clips), joiner.start())
        joiner.finish()
    whole = append_sound(noise(SHOWN, 0), clips[0], chosen, SHOWN + part)
    whole = append_sound(whole, clips[1], chosen, SHOWN + NEW)
    assert np.array_equal(np.concatenate(recorder.sounds, axis=1), whole)
    assert lengths == [num_samples(25, RATE) + FADE_SAMPLES] * 2, "the work does not grow with the source"


@dataclass
class SlowSource(Frames):
    """A source whose frames after the first can be read only when `may_go_on` is set."""

    may_go_on: threading.Event = field(default_factory=threading.Event)

    def write_source(self, frames: Any, check: Any) -> None:
        while self.levels and not self.may_go_on.wait(0.01):
            check()
        self.write(frames)


def test_the_source_is_written_while_the_first_window_is_sampled() -> None:
    chosen, recorder = plan(), SlowSource()
    source: Any = recorder

    def sampled() -> Iterator[GeneratedClip]:
        assert len(recorder.levels) < SHOWN
        recorder.may_go_on.set()
        yield GeneratedClip(chunks(0.4, chosen.new_frames), chosen.new_frames, chosen.context_frames)

    with Background() as background:
        joiner = Joiner(chosen, source, None, recorder, Carrying(), ignore_progress, background)
        joiner.add(sampled(), joiner.start())
        joiner.finish()
    assert recorder.levels == pytest.approx([*range(SHOWN), *[0.4 * 255] * chosen.new_frames])


@pytest.mark.parametrize(("sound", "share"), [(None, 0), (np.zeros((2, 480_000), np.float32), 1)])
def test_the_progress_of_reading_does_not_go_back_after_the_sound(sound: Any, share: float) -> None:
    recorder, reports = Frames(), list[Progress]()
    source: Any = recorder
    with Background() as background:
        Joiner(plan(), source, sound, recorder, Carrying(), reports.append, background).start()
    assert [report.share for report in reports] == [share]


def test_a_failed_request_does_not_wait_for_its_source() -> None:
    recorder = SlowSource()
    source: Any = recorder

    def fail() -> None:
        with Background() as background:
            Joiner(plan(), source, None, recorder, Carrying(), ignore_progress, background).start()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert len(recorder.levels) < SHOWN
