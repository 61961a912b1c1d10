"""What of the source is carried into the new frames and their sound, and the notes about it."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from longtake.carried.balance import Balance
from longtake.carried.repeated_sound import RepeatedSound
from longtake.carried.steady_sound import SteadySound
from longtake.output.carrying import (
    BALANCE_NOTE,
    DETAIL_NOTE,
    NO_TRACK_NOTE,
    ONE_FRAME_NOTE,
    REPEATED_NOTE,
    SILENT_NOTE,
    STEADY_NOTE,
    Carrying,
    LastingSound,
    carries_detail,
)
from longtake.settings import Settings

TONE = np.stack(2 * [0.2 * np.sin(np.arange(48_000) * 2 * np.pi * 440 / 48_000)]).astype(np.float32)
STEADY, SILENCE, NO_TRACK = (LastingSound.of(sound) for sound in (TONE, 0 * TONE, None))
SETTINGS = Settings(carry_detail="stand-in")


@pytest.mark.parametrize(
    ("setting", "stands_in_for", "end_image", "keeps_source", "carries"),
    [
        ("stand-in", "ltxv-13b", None, True, True),
        ("stand-in", None, None, True, False),
        ("always", None, None, True, True),
        ("never", "ltxv-13b", None, True, False),
        ("always", "ltxv-13b", "an image", True, False),
        ("always", "ltxv-13b", None, False, False),
    ],
)
def test_detail_is_carried_where_the_setting_says(
    setting: Any, stands_in_for: str | None, end_image: str | None, keeps_source: bool, carries: bool
) -> None:
    plan = SimpleNamespace(keeps_source=keeps_source, context_frames=9)
    job: Any = SimpleNamespace(plan=plan, model=SimpleNamespace(stands_in_for=stands_in_for), end_image=end_image)
    assert carries_detail(job, Settings(carry_detail=setting)) == carries


@pytest.mark.parametrize(
    ("shown_frames", "carrying", "is_sound_carried", "notes"),
    [
        (1, Carrying(True), False, (ONE_FRAME_NOTE,)),
        (2, Carrying(True), False, (DETAIL_NOTE,)),
        (2, Carrying(True, Balance(0.3, 0.0), STEADY), False, (DETAIL_NOTE, BALANCE_NOTE)),
        (2, Carrying(True, Balance(0.3, 0.0), STEADY), True, (DETAIL_NOTE, STEADY_NOTE)),
        (
            2,
            Carrying(True, None, LastingSound(RepeatedSound(24_000, 1), REPEATED_NOTE)),
            True,
            (DETAIL_NOTE, REPEATED_NOTE),
        ),
        (2, Carrying(True, None, SILENCE), True, (DETAIL_NOTE, SILENT_NOTE)),
        (2, Carrying(True, None, NO_TRACK), True, (DETAIL_NOTE, NO_TRACK_NOTE)),
        (2, Carrying(True, None, NO_TRACK), False, (DETAIL_NOTE,)),
        (2, Carrying(), False, ()),
    ],
)
def test_notes_say_what_is_carried(
    shown_frames: int, carrying: Carrying, is_sound_carried: bool, notes: tuple[str, ...]
) -> None:
    # Motion is measured in all source frames next to the new ones, also if the model sees one of them.
    plan: Any = SimpleNamespace(context_frames=1, shown_frames=shown_frames)
    assert carrying.notes(plan, is_sound_carried=is_sound_carried) == notes


def sided(left: float, right: float) -> Any:
    """One second of noise at the left side, then one second at the right, with these loudnesses."""
    noise = np.random.default_rng(1).normal(size=48_000).astype(np.float32)
    silent = np.zeros_like(noise)
    return np.stack([np.concatenate([left * noise, silent]), np.concatenate([silent, right * noise])])


@pytest.mark.parametrize(
    ("source_last", "makes_sound", "embedded", "joint"),
    [(False, True, True, 1), (True, True, True, -1), (False, False, True, None), (False, True, False, None)],
)
def test_new_sound_of_a_miniature_gets_the_balance_next_to_it(
    source_last: bool, makes_sound: bool, embedded: bool, joint: float | None
) -> None:
    fields = {"keeps_source": True, "context_frames": 9, "makes_sound": makes_sound, "sound_strength": 1}
    plan = SimpleNamespace(**fields, source_last=source_last)
    job: Any = SimpleNamespace(
        plan=plan, model=SimpleNamespace(stands_in_for="x"), card=SimpleNamespace(embedded=embedded), end_image=None
    )
    balance = Carrying.of(job, sided(0.1, 0.1), SETTINGS).balance
    assert (balance and balance.joint) == (joint and pytest.approx(joint, abs=0.05))
    assert Carrying.of(job, None, SETTINGS).balance is None
    assert Carrying.of(job, np.ones((2, 48_000), np.float32), SETTINGS).balance is None


@pytest.mark.parametrize("source_last", [False, True])
@pytest.mark.parametrize(
    ("makes_sound", "embedded", "strength", "carries"),
    [(True, True, 1, True), (False, True, 1, False), (True, False, 1, False), (True, True, 0.5, False)],
)
def test_new_sound_of_a_miniature_is_the_steady_sound_next_to_it(
    source_last: bool, makes_sound: bool, embedded: bool, strength: float, carries: bool
) -> None:
    fields = {"keeps_source": True, "context_frames": 9, "makes_sound": makes_sound, "sound_strength": strength}
    plan = SimpleNamespace(**fields, source_last=source_last)
    job: Any = SimpleNamespace(
        plan=plan, model=SimpleNamespace(stands_in_for="x"), card=SimpleNamespace(embedded=embedded), end_image=None
    )
    noise = np.random.default_rng(1).normal(0, 0.2, (2, 48_000)).astype(np.float32)
    sides = [TONE, noise] if source_last else [noise, TONE]
    steady = Carrying.of(job, np.concatenate(sides, axis=1), SETTINGS).sound
    assert (steady is not None) == carries
    if steady and isinstance(steady.sound, SteadySound) and steady.sound.tones is not None:
        assert steady.sound.tones.hertz == pytest.approx([440], abs=0.1)
    assert Carrying.of(job, None, SETTINGS).sound == (NO_TRACK if carries else None)


SINCE = np.arange(3 * 48_000) % 4800 / 48_000
CLICKS = 0.3 * np.exp(-SINCE * 250) * np.sin(2 * np.pi * 2500 * SINCE)
SLOW = np.where(np.arange(6 * 48_000) % 96_000 < 4800, 0.1, 0) * np.sin(np.arange(6 * 48_000) * 2 * np.pi / 48)
HUM = np.sin(2 * np.pi * 440.3 * np.arange(3 * 48_000) / 48_000)


@pytest.mark.parametrize(
    ("wave", "kind"),
    [
        (HUM, SteadySound),
        (HUM + np.random.default_rng(1).normal(0, 0.1, len(HUM)), SteadySound),
        (np.random.default_rng(1).normal(0, 0.1, len(HUM)), SteadySound),
        (CLICKS, RepeatedSound),
        (SLOW, RepeatedSound),
        (np.zeros(len(HUM)), SteadySound),
        (
            np.sin(2 * np.pi * (300 + 40 * SINCE) * np.arange(len(HUM)) / 96_000 * np.linspace(1, 2, len(HUM))),
            type(None),
        ),
    ],
    ids=["tone", "tone over noise", "noise", "10 clicks a second", "a beep every 2 s", "silence", "neither"],
)
def test_what_repeats_itself_is_repeated_and_what_is_steady_goes_on(wave: Any, kind: type) -> None:
    found = LastingSound.of(np.stack([0.2 * wave, 0.1 * wave]).astype(np.float32))
    assert type(found and found.sound) is kind
