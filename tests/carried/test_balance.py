"""The stereo balance of a source's sound, and new sound that goes on with it."""

import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.carried.balance import Balance
from longtake.media.formats import SOUND_RATE
from longtake.media.sound import Samples


def voice(balance: NDArray[np.float64], loudness: float = 0.2) -> Samples:
    """A tone with a balance at each sample, [2, n]."""
    tone = loudness * np.sin(np.arange(len(balance)) * 2 * np.pi * 440 / SOUND_RATE)
    angle = (balance + 1) * np.pi / 4
    return (np.stack([np.cos(angle), np.sin(angle)]) * tone).astype(np.float32)


def seconds(start: float, stop: float) -> NDArray[np.float64]:
    return np.arange(round(start * SOUND_RATE), round(stop * SOUND_RATE)) / SOUND_RATE


def heard(sound: Samples) -> NDArray[np.float64]:
    """The balance of each tenth of a second."""
    powers = np.square(sound.astype(np.float64)).reshape(2, -1, SOUND_RATE // 10).mean(axis=2)
    balance: NDArray[np.float64] = np.arctan2(np.sqrt(powers[1]), np.sqrt(powers[0])) * 4 / np.pi - 1
    return balance


@pytest.mark.parametrize("side", [-1.0, -0.4, 0.0, 0.7, 1.0])
def test_a_voice_at_one_side_stays_there(side: float) -> None:
    balance = Balance.of(voice(np.full(2 * SOUND_RATE, side)))
    assert balance.at(np.array([-1.0, 0.0, 4.0])) == pytest.approx(side, abs=0.01)
    assert balance.is_central == (side == 0)


def test_a_voice_that_crosses_steadily_goes_on_and_slows_down() -> None:
    balance = Balance.of(voice(-0.3 * seconds(-1.4, 0)))
    assert balance.at(np.array([0.0, 0.5, 1.0])) == pytest.approx([0, -0.14, -0.25], abs=0.02)


@pytest.mark.parametrize(
    ("joint", "speed", "end"), [(0.2, 0.4, 0.5), (-0.2, -0.4, -0.5), (0.9, 0.6, 0.9), (0.9, -0.6, -0.5)]
)
def test_a_voice_that_goes_to_one_side_stays_audible_at_the_other(joint: float, speed: float, end: float) -> None:
    assert Balance(joint, speed).at(np.array([0.0, 60.0])) == pytest.approx([joint, end], abs=0.02)


@pytest.mark.parametrize(
    "change",
    [
        lambda time: 0.5 * np.sign(np.sin(2 * np.pi * 2.5 * time)),
        lambda time: 0.6 * np.where(time < -1, time + 1.5, -0.5 - time),
        lambda time: np.random.default_rng(1).uniform(-0.6, 0.6, 40).repeat(SOUND_RATE // 20)[: len(time)],
    ],
    ids=["back and forth", "there and back", "random"],
)
def test_a_balance_that_does_not_change_steadily_stays_at_its_mean(change: object) -> None:
    course = change(seconds(-2, 0))  # type: ignore[operator]
    balance = Balance.of(voice(course))
    assert balance.speed == pytest.approx(0, abs=0.05)
    assert balance.joint == pytest.approx(course[SOUND_RATE:].mean(), abs=0.1)


@pytest.mark.parametrize("length", [0, 100, SOUND_RATE // 10, 2 * SOUND_RATE])
def test_silence_and_sound_that_is_too_short_are_central(length: int) -> None:
    assert Balance.of(np.zeros((2, length), np.float32)).is_central


def test_new_sound_gets_the_balance_and_stays_as_loud() -> None:
    new = voice(np.zeros(2 * SOUND_RATE))
    applied = Balance(-0.2, -0.3).applied(new, -0.5)
    times = np.arange(20) / 10 - 0.45
    assert heard(applied) == pytest.approx(Balance(-0.2, -0.3).at(times), abs=0.02)
    assert np.square(applied).sum() == pytest.approx(np.square(new).sum(), rel=1e-3)


def test_loud_sound_at_one_side_stays_within_full_scale() -> None:
    loud = np.sqrt(2) * voice(np.zeros(SOUND_RATE), loudness=0.95)
    applied = Balance(1.0, 0.0).applied(loud.astype(np.float32), 0.0)
    assert np.abs(applied).max() == pytest.approx(1)
    assert np.abs(applied[0]).max() < 1e-6
