"""The steady part of a source's sound, and new sound that goes on with it."""

import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.carried.steady_sound import SteadySound
from longtake.media.formats import SOUND_RATE
from longtake.media.sound import FADE_SAMPLES, Samples

TIMES = np.arange(-SOUND_RATE, SOUND_RATE) / SOUND_RATE


def sound(wave: NDArray[np.float64]) -> Samples:
    return np.stack([wave, 0.5 * wave]).astype(np.float32)


def noise(scale: float) -> NDArray[np.float64]:
    return np.random.default_rng(4).normal(0, scale, len(TIMES))


TONE = 0.2 * np.sin(2 * np.pi * 440 * TIMES)


def test_a_tone_over_noise_goes_on_without_a_click() -> None:
    whole = sound(TONE + noise(0.01))
    source = whole[:, :SOUND_RATE]
    steady = SteadySound.of(source)
    assert steady is not None
    made = steady.continued(source, SOUND_RATE)
    assert made.shape == whole.shape
    assert np.array_equal(made[:, : SOUND_RATE - FADE_SAMPLES], source[:, :-FADE_SAMPLES])
    error = made[:, SOUND_RATE:] - sound(TONE)[:, SOUND_RATE:]
    assert error.std(axis=1) == pytest.approx([0.01, 0.005], rel=0.2), "only the noise differs"
    steps = np.abs(np.diff(made))
    assert steps[:, SOUND_RATE - FADE_SAMPLES - 1 : SOUND_RATE + 100].max() < 1.2 * steps[:, :40_000].max()


@pytest.mark.parametrize(
    "wave",
    [
        0.2 * np.sin(2 * np.pi * (500 * TIMES + 150 * TIMES**2)),
        0.2 * np.sin(2 * np.pi * 440 * TIMES + 3 * np.sin(2 * np.pi * 5.5 * TIMES)),
        noise(0.1) * np.square(np.sin(2 * np.pi * 2 * TIMES)) ** 2,
        TONE[-20_000:],
    ],
    ids=["a chirp", "a vibrato", "noise that comes and goes", "less than half a second"],
)
def test_other_sound_does_not_go_on(wave: NDArray[np.float64]) -> None:
    assert SteadySound.of(sound(wave)[:, :SOUND_RATE]) is None


@pytest.mark.parametrize("length", [0, 100, SOUND_RATE])
def test_silence_stays_silent(length: int) -> None:
    source = np.zeros((2, length), np.float32)
    steady = SteadySound.of(source)
    assert steady is not None
    assert steady.is_silent
    assert not steady.continued(source, 1000).any()


def test_silence_after_sound_stays_silent() -> None:
    source = np.concatenate([sound(TONE), np.zeros((2, SOUND_RATE), np.float32)], axis=1)
    steady = SteadySound.of(source)
    assert steady is not None
    assert not steady.continued(source, 1000)[:, -1000:].any()


def test_new_sound_stays_within_full_scale() -> None:
    source = sound(4.9 * TONE + noise(0.05))[:, :SOUND_RATE]
    steady = SteadySound.of(source)
    assert steady is not None
    assert np.abs(steady.continued(source, SOUND_RATE)[:, SOUND_RATE:]).max() <= 1
