"""The steady tones of a sound, and how they go on."""

import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.carried.steady_tones import SteadyTones
from longtake.media.formats import SOUND_RATE

TIMES = np.arange(-SOUND_RATE, SOUND_RATE // 2) / SOUND_RATE


def sine(hertz: float, amplitude: float = 0.2) -> NDArray[np.float64]:
    wave: NDArray[np.float64] = amplitude * np.sin(2 * np.pi * hertz * TIMES + 1)
    return wave


def both(wave: NDArray[np.float64]) -> NDArray[np.float64]:
    """A sound that is louder at the left side."""
    return np.stack([wave, 0.4 * wave])


STEADY = {
    "a tone": sine(440),
    "two tones": sine(440) + sine(1234.5, 0.1),
    "a hum": np.sum([sine(50 * number, 0.1 / number) for number in range(1, 12)], axis=0),
    "a high tone": sine(6500),
    "a tone that fades": sine(523.25, 0.1) * np.exp(-1.2 * TIMES),
}


@pytest.mark.parametrize("kind", STEADY)
def test_steady_tones_go_on_in_phase(kind: str) -> None:
    sound = both(STEADY[kind])
    tones, _ = SteadyTones.of(sound[:, :SOUND_RATE])
    assert np.abs(tones.at(0, SOUND_RATE // 2) - sound[:, SOUND_RATE:]).max() < 0.01


@pytest.mark.parametrize(
    "wave",
    [
        np.sin(2 * np.pi * (500 * TIMES + 150 * TIMES**2)),
        np.sin(2 * np.pi * 880 * TIMES) * (TIMES % 0.4 < 0.2),
        np.random.default_rng(1).normal(size=len(TIMES)),
        np.zeros(len(TIMES)),
    ],
    ids=["a chirp", "beeps", "noise", "silence"],
)
def test_other_sound_has_no_tone_that_goes_on(wave: NDArray[np.float64]) -> None:
    sound = both(0.2 * wave)[:, :SOUND_RATE]
    went_on = SteadyTones.of(sound)[0].at(SOUND_RATE, SOUND_RATE // 4)
    assert np.square(went_on).mean() <= 0.1 * np.square(sound).mean()


def test_a_tone_in_noise_goes_on_without_the_noise() -> None:
    tone = both(sine(660))
    noise = np.random.default_rng(1).normal(0, 0.03, tone.shape)
    tones, peaks = SteadyTones.of((tone + noise)[:, :SOUND_RATE])
    assert tones.hertz == pytest.approx([660], abs=0.1)
    assert peaks == pytest.approx([660], abs=0.5)
    assert np.abs(tones.at(0, SOUND_RATE // 2) - tone[:, SOUND_RATE:]).max() < 0.02
