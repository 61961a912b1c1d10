"""Another tempo: exact length, same pitch, same loudness, events at their place."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from longtake.media.sound import num_samples
from longtake.media.tempo import stretch, tempo_factors

SPEEDS = [Fraction(1, 3), Fraction(24_000, 25_025), Fraction(25, 24), Fraction(2), Fraction(30, 24), Fraction(5)]


def tone(length: int, hz: float = 440.0) -> NDArray[np.float32]:
    wave = 0.5 * np.sin(2 * np.pi * hz * np.arange(length) / 48_000)
    return np.stack([wave, 0.5 * wave]).astype(np.float32)


@given(st.fractions(min_value=Fraction(1, 60), max_value=60).filter(bool))
def test_factors_stay_in_the_range_where_nothing_is_skipped(speed: Fraction) -> None:
    factors = tempo_factors(speed)
    assert all(0.5 - 1e-6 <= factor <= 2 + 1e-6 for factor in factors)
    assert math.prod(factors) == pytest.approx(float(speed), rel=1e-9)


@pytest.mark.parametrize("speed", SPEEDS, ids=str)
def test_length_pitch_and_loudness(speed: Fraction) -> None:
    rate = Fraction(24)
    length = num_samples(48, rate * speed)
    played = stretch(tone(num_samples(48, rate)), speed, length)
    assert played.shape == (2, length)
    assert played.dtype == np.float32
    spectrum = np.abs(np.fft.rfft(played[0] * np.hanning(length)))
    assert spectrum.argmax() * 48_000 / length == pytest.approx(440, abs=2 * 48_000 / length)
    assert played[0].std() == pytest.approx(0.5 / math.sqrt(2), rel=0.05)
    assert played[1].std() == pytest.approx(0.5 * played[0].std(), rel=0.01)


@pytest.mark.parametrize("speed", SPEEDS[1:], ids=str)
def test_sounds_stay_beside_their_frames(speed: Fraction) -> None:
    """Bursts in the middle of each second are within 40 ms of their new time."""
    sound = np.zeros((2, 5 * 48_000), np.float32)
    for second in range(5):
        sound[:, second * 48_000 + 24_000 :][:, :4000] = tone(4000)
    played = np.abs(stretch(sound, speed, round(5 * 48_000 / speed))[0])
    for second in range(5):
        here = round((second + 0.5) * 48_000 / speed)
        reach = round(20_000 / speed)
        window = played[here - reach : here + reach]
        onset = here - reach + int((window > 0.1).argmax())
        assert abs(onset - here) < 0.04 * 48_000


def test_speed_1_changes_nothing() -> None:
    samples = tone(5000)
    assert (stretch(samples, Fraction(1), 5000) == samples).all()
    assert stretch(samples, Fraction(1), 6000).shape == (2, 6000)


def test_no_samples_become_silence() -> None:
    assert not stretch(np.zeros((2, 0), np.float32), Fraction(2), 100).any()
