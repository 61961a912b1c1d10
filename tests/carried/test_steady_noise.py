"""The steady noise of a sound, and more noise of the same kind."""

import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.carried.steady_noise import SteadyNoise
from longtake.media.formats import SOUND_RATE

NO_TONES = np.zeros(0)


def noise(low: float, high: float, loudness: float = 0.1) -> NDArray[np.float64]:
    """One second of noise in a band, the same on both sides."""
    spectrum = np.fft.rfft(np.random.default_rng(2).normal(size=SOUND_RATE))
    hertz = np.fft.rfftfreq(SOUND_RATE, 1 / SOUND_RATE)
    wave = np.fft.irfft(spectrum * ((low < hertz) & (hertz < high)))
    sound: NDArray[np.float64] = np.stack([wave, wave]) * loudness / wave.std()
    return sound


def decibels(sound: NDArray[np.float64], low: float = 0, high: float = SOUND_RATE) -> float:
    """The power of a sound in a band."""
    hertz = np.fft.rfftfreq(sound.shape[1], 1 / SOUND_RATE)
    power = np.square(np.abs(np.fft.rfft(sound)[:, (low <= hertz) & (hertz < high)])).sum() / sound.shape[1] ** 2
    return float(10 * np.log10(power + 1e-12))


def test_noise_goes_on_with_its_spectrum_and_does_not_repeat() -> None:
    sound = noise(100, 800) + noise(2000, 8000, 0.02)
    steady = SteadyNoise.of(sound, NO_TONES)
    made = steady.made(2 * SOUND_RATE, 0)
    for band in ((120, 650), (2400, 6700)):
        assert decibels(made[:, :SOUND_RATE], *band) == pytest.approx(decibels(sound, *band), abs=1.5)
    assert decibels(made, 12_000) < decibels(sound) - 50
    assert steady.power == pytest.approx(np.square(sound).mean(axis=1).sum(), rel=0.2)
    assert np.array_equal(made[0], made[1])
    assert abs(np.corrcoef(made[0, :SOUND_RATE], made[0, SOUND_RATE:])[0, 1]) < 0.1
    assert np.array_equal(made, steady.made(2 * SOUND_RATE, 0))


def test_sides_that_have_nothing_in_common_stay_so() -> None:
    sound = np.random.default_rng(3).normal(0, [[0.1], [0.02]], (2, SOUND_RATE))
    made = SteadyNoise.of(sound, NO_TONES).made(SOUND_RATE, 0)
    loudness = [float(side.std()) for side in made]
    assert loudness == pytest.approx([0.1, 0.02], rel=0.1)
    assert abs(np.corrcoef(made[0], made[1])[0, 1]) < 0.2


def test_noise_that_comes_and_goes_fades_to_its_ground() -> None:
    sound = noise(300, 3000) * np.where(np.arange(SOUND_RATE) % 24_000 < 12_000, 0.01, 1)
    steady = SteadyNoise.of(sound, NO_TONES)
    assert steady.power < 0.1 * np.square(sound).mean(axis=1).sum()
    levels = [decibels(made) for made in np.split(steady.made(2 * SOUND_RATE, 0), 4, axis=1)]
    assert levels[0] > levels[1] + 3
    assert levels[3] < decibels(sound) - 15


def test_a_voice_whose_pitch_changes_is_no_noise() -> None:
    times = np.arange(SOUND_RATE) / SOUND_RATE
    wave = 0.2 * np.sin(2 * np.pi * (700 * times + 150 * times**2))
    steady = SteadyNoise.of(np.stack([wave, wave]), NO_TONES)
    assert steady.power < 0.1 * 2 * np.square(wave).mean()


def test_noise_at_a_tone_is_as_loud_as_beside_it() -> None:
    times = np.arange(SOUND_RATE) / SOUND_RATE
    sound = noise(100, 8000) + 0.5 * np.sin(2 * np.pi * 1000 * times)
    made = SteadyNoise.of(sound, np.array([1000.0])).made(SOUND_RATE, 0)
    assert decibels(made, 900, 1100) == pytest.approx(decibels(noise(100, 8000), 900, 1100), abs=2)


def test_silence_stays_silent() -> None:
    assert np.abs(SteadyNoise.of(np.zeros((2, SOUND_RATE)), NO_TONES).made(1000, 0)).max() < 1e-9
