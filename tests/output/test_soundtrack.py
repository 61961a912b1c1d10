"""The output's sound: the source's part, and new sound appended or prepended to it."""

import tracemalloc
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from longtake.carried.balance import Balance
from longtake.carried.repeated_sound import RepeatedSound
from longtake.carried.steady_sound import SteadySound
from longtake.endpoints import ltx23
from longtake.families.family import GeneratedClip
from longtake.media.sound import FADE_SAMPLES, Samples, continue_sound, num_samples, reverse
from longtake.output.soundtrack import (
    append_sound,
    balanced,
    context_sound,
    course_start,
    lasting_course,
    prepend_sound,
    silent_track,
    source_track,
    with_course,
)
from longtake.plans import Plan
from longtake.video import VideoInfo
from tests.endpoints.planning import plan_of

RATE = Fraction(24)
SHOWN, CONTEXT, NEW = 50, 25, 16
SOURCE = VideoInfo("mp4", "h264", 64, 64, RATE, SHOWN)


def plan(**fields: Any) -> Any:
    return plan_of(ltx23.ENDPOINT, {"num_frames": CONTEXT + NEW, **fields}, SOURCE)


def noise(num_frames: int, seed: int = 0) -> Samples:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (2, num_samples(num_frames, RATE))).astype(np.float32)


def clip(sound: Samples, new_frames: int = NEW, context_frames: int = CONTEXT) -> GeneratedClip:
    return GeneratedClip(iter(()), new_frames, context_frames, sound=sound)


def test_the_source_track_is_the_source_s_own_sound() -> None:
    sound = noise(SHOWN)
    assert source_track(sound, plan()) is sound


def test_a_silent_source_gives_silence() -> None:
    track = source_track(None, plan())
    assert track.shape == (2, num_samples(SHOWN, RATE))
    assert not track.any()


def test_with_less_strength_the_context_s_sound_is_left_out() -> None:
    sound, left_out = noise(SHOWN), num_samples(CONTEXT, RATE)
    assert np.array_equal(source_track(sound, plan(audio_strength=0.5)), sound[:, :-left_out])
    backward = plan(audio_strength=0.5, extend_direction="backward")
    assert np.array_equal(source_track(sound, backward), sound[:, num_samples(backward.context_frames, RATE) :])


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_without_generated_sound_the_new_frames_are_silent(direction: str) -> None:
    sound, chosen = noise(SHOWN), plan(generate_audio=False, extend_direction=direction)
    track = np.concatenate(silent_track(sound, chosen), axis=1)
    own, new = num_samples(SHOWN, RATE), num_samples(chosen.num_frames, RATE) - num_samples(SHOWN, RATE)
    assert track.shape[1] == own + new
    if direction == "forward":
        assert np.array_equal(track[:, : own - FADE_SAMPLES], sound[:, : own - FADE_SAMPLES])
        assert not track[:, own:].any()
    else:
        assert np.array_equal(track[:, new + FADE_SAMPLES :], sound[:, FADE_SAMPLES:])
        assert not track[:, :new].any()


def test_the_context_s_sound_is_next_to_the_joint() -> None:
    sound, length = noise(SHOWN), num_samples(CONTEXT, RATE)
    found = context_sound(sound, plan())
    assert found is not None
    assert np.array_equal(found, sound[:, -length:])
    backward = plan(extend_direction="backward")
    found = context_sound(sound, backward)
    assert found is not None
    assert np.array_equal(found, sound[:, : num_samples(backward.context_frames, RATE)])


def test_there_is_no_context_sound_without_sound_or_context() -> None:
    assert context_sound(None, plan()) is None
    assert context_sound(noise(SHOWN), plan(num_context_frames=0)) is None


def test_appended_sound_changes_only_the_cross_fade() -> None:
    sound, total = noise(SHOWN), SHOWN + NEW
    track = append_sound(sound, clip(noise(CONTEXT + NEW, seed=1)), plan(), total)
    final = sound.shape[1] - FADE_SAMPLES
    assert track.shape == (2, num_samples(total, RATE))
    assert np.array_equal(track[:, :final], sound[:, :final])
    assert track[:, sound.shape[1] :].any()


def test_a_clip_without_sound_leaves_the_track_unchanged() -> None:
    sound = noise(SHOWN)
    assert append_sound(sound, GeneratedClip(iter(()), NEW, CONTEXT), plan(), SHOWN + NEW) is sound


def test_sound_that_is_too_short_is_filled_with_silence() -> None:
    track = append_sound(noise(SHOWN), clip(noise(CONTEXT + 2, seed=1)), plan(), SHOWN + NEW)
    assert track.shape == (2, num_samples(SHOWN + NEW, RATE))
    assert not track[:, num_samples(SHOWN + 4, RATE) :].any()


def test_prepended_sound_changes_only_the_cross_fade() -> None:
    chosen, sound = plan(extend_direction="backward"), noise(SHOWN)
    clips = [clip(noise(chosen.context_frames + 8, seed=number), 8, chosen.context_frames) for number in (1, 2)]
    track = np.concatenate(prepend_sound(sound, clips, chosen), axis=1)
    assert track.shape == (2, num_samples(SHOWN + 16, RATE))
    final = sound.shape[1] - FADE_SAMPLES
    assert np.array_equal(track[:, -final:], sound[:, -final:])
    assert track[:, : -sound.shape[1]].any()


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_clip_gets_the_balance_of_its_own_time(direction: str) -> None:
    chosen, distance = plan(extend_direction=direction), 2 * NEW
    mono = clip(noise(CONTEXT + NEW)[:1].repeat(2, axis=0))
    sound = balanced(mono, Balance(0.0, 0.2), chosen, distance).sound
    assert sound is not None
    away = sound if direction == "forward" else sound[:, ::-1]
    powers = np.square(away[:, [*range(1000)]]).sum(axis=1), np.square(away[:, -1000:]).sum(axis=1)
    heard = [np.arctan2(*np.sqrt(power[::-1])) * 4 / np.pi - 1 for power in powers]
    times = np.array([distance - CONTEXT, distance + NEW]) / float(RATE)
    assert heard == pytest.approx(Balance(0.0, 0.2).at(times), abs=0.01)
    assert balanced(mono, None, chosen, distance) is mono


def carried_on(source: Samples, sound: SteadySound | RepeatedSound, chosen: Plan) -> Samples:
    """The track of the output if the sound goes on in two clips, of which the model has made other sound."""
    course = lasting_course(source, sound, chosen)
    near, far = (with_course(clip(noise(CONTEXT + NEW)), course, chosen, distance) for distance in (0, NEW))
    if chosen.source_last:
        return np.concatenate(prepend_sound(source, [far, near], chosen), axis=1)
    return append_sound(append_sound(source, near, chosen, SHOWN + NEW), far, chosen, SHOWN + 2 * NEW)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_steady_tone_goes_on_in_all_clips_without_a_step(direction: str) -> None:
    chosen, backward = plan(extend_direction=direction, num_frames=CONTEXT + 2 * NEW), direction == "backward"
    times = (np.arange(num_samples(SHOWN + 2 * NEW, RATE)) - (num_samples(2 * NEW, RATE) if backward else 0)) / 48_000
    whole = np.stack([0.3 * np.sin(2 * np.pi * 440.3 * times), 0.1 * np.sin(2 * np.pi * 440.3 * times)])
    own = num_samples(SHOWN, RATE)
    source = (whole[:, -own:] if backward else whole[:, :own]).astype(np.float32)
    tone = SteadySound.of(source[:, ::-1] if backward else source)
    assert tone is not None
    track = carried_on(source, tone, chosen)
    assert track.shape == whole.shape
    assert np.abs(track - whole).max() < 0.01


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("start", [0, 3_000, 4_000, 4_010, 15_000])
def test_beeps_go_on_in_all_clips(direction: str, start: int) -> None:
    chosen, backward = plan(extend_direction=direction, num_frames=CONTEXT + 2 * NEW), direction == "backward"
    own, new = num_samples(SHOWN, RATE), num_samples(2 * NEW, RATE)
    since = (np.arange(own + new) - start) % 24_000 / 48_000
    beeps = 0.126 * np.sin(2 * np.pi * 1000 * since) * (since < 0.03)
    whole = np.stack([beeps, 0.3 * beeps]).astype(np.float32)
    source = whole[:, new:] if backward else whole[:, :own]
    repeated = RepeatedSound.of(source[:, ::-1] if backward else source)
    assert repeated is not None
    track = carried_on(source, repeated, chosen)
    assert track.shape == whole.shape
    assert np.abs(track - whole).max() < 0.01


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_source_without_sound_has_a_silent_course(direction: str) -> None:
    chosen = plan(extend_direction=direction)
    course = lasting_course(None, SteadySound(None, None), chosen)
    assert course.shape == (2, num_samples(chosen.num_frames, RATE) + FADE_SAMPLES)
    assert not course.any()


@pytest.mark.parametrize("sound", [SteadySound(None, None), RepeatedSound(4800.0, 1.0)])
def test_a_long_source_is_copied_once(sound: SteadySound | RepeatedSound) -> None:
    source = np.ones((2, 1_000_000), np.float32)
    tracemalloc.start()
    whole = sound.continued(source, 1000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert whole.dtype == np.float32
    assert peak < 1.1 * whole.nbytes, "in 64 bits it would need three times as much"


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("sound", [SteadySound(None, None), RepeatedSound(100_000.0, 1.0)])
def test_of_a_long_source_only_the_end_goes_on(sound: SteadySound | RepeatedSound, direction: str) -> None:
    chosen, source = replace(plan(extend_direction=direction), shown_frames=20 * 24), noise(20 * 24)
    course, start = lasting_course(source, sound, chosen), course_start(chosen)
    away = source if direction == "forward" else reverse(source)
    new = num_samples(chosen.num_frames, RATE) - num_samples(20 * 24, RATE)
    whole = sound.continued(away, new + FADE_SAMPLES)
    assert start > num_samples(9 * 24, RATE)
    assert np.array_equal(course, whole[:, start:])
    made = with_course(clip(noise(CONTEXT + 10), 10), course, chosen, 5).sound
    assert made is not None
    first, last = num_samples(20 * 24 + 5 - CONTEXT, RATE), num_samples(20 * 24 + 15, RATE) + FADE_SAMPLES
    assert np.array_equal(made if direction == "forward" else reverse(made), whole[:, first:last])


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_long_source_is_not_copied_into_the_output(direction: str) -> None:
    sound, chosen = noise(SHOWN), plan(generate_audio=False, extend_direction=direction)
    assert sum(np.shares_memory(piece, sound) for piece in silent_track(sound, chosen)) == 1
    backward = plan(extend_direction="backward")
    new, rest = prepend_sound(sound, [clip(noise(CONTEXT + NEW))], backward)
    assert not np.shares_memory(new, sound)
    assert np.shares_memory(rest, sound)


def test_a_clip_without_sound_stays_without() -> None:
    mute = GeneratedClip(iter(()), NEW, CONTEXT)
    assert with_course(mute, noise(SHOWN), plan(), 0) is mute


def test_only_the_beginning_of_a_source_is_changed_by_the_sound_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, source, lengths = plan(extend_direction="backward"), noise(4 * SHOWN), list[int]()
    clips = [clip(noise(CONTEXT + NEW, seed=seed)) for seed in (1, 2)]

    def counted(end: Samples, *arguments: Any) -> Samples:
        lengths.append(end.shape[1])
        return append_sound(end, *arguments)

    monkeypatch.setattr("longtake.output.soundtrack.append_sound", counted)
    track = np.concatenate(prepend_sound(source, clips, replace(chosen, shown_frames=4 * SHOWN)), axis=1)
    whole = source
    for number, part in enumerate(reversed(clips)):
        assert part.sound is not None
        longer = reverse(continue_sound(reverse(whole), reverse(part.sound), num_samples(CONTEXT, RATE)))
        whole = longer[:, -num_samples(4 * SHOWN + (number + 1) * NEW, RATE) :]
    assert np.array_equal(track, whole)
    assert lengths[0] == num_samples(CONTEXT, RATE) + FADE_SAMPLES
