"""Pitch and phase across joints with known faults."""

import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.inspect.pitch import pitch, tone_figures

JOINT = 24_000


def wave(hz: float, length: int, degrees: float = 0, partials: int = 1) -> NDArray[np.float32]:
    """A tone whose sine has the phase `degrees` at sample JOINT; higher partials are weaker."""
    turns = 2 * np.pi * hz * (np.arange(length) - JOINT) / 48_000 + np.radians(degrees)
    mono = sum(0.3 / n * np.sin(n * turns) for n in range(1, partials + 1))
    return np.stack([mono, mono]).astype(np.float32)


def joined(hz: float, after_hz: float, degrees: float, partials: int = 1) -> NDArray[np.float32]:
    first, then = wave(hz, 2 * JOINT, 0, partials), wave(after_hz, 2 * JOINT, degrees, partials)
    return np.concatenate([first[:, :JOINT], then[:, JOINT:]], axis=1)


@pytest.mark.parametrize("partials", [1, 5])
@pytest.mark.parametrize("hz", [70.0, 110.0, 261.6, 1000.0, 3520.0])
def test_pitch_is_found_with_and_without_overtones(hz: float, partials: int) -> None:
    sound = wave(hz, 4800, partials=partials)[0].astype(np.float64)
    assert pitch(sound) == pytest.approx(hz, rel=4e-3)


@pytest.mark.parametrize("degrees", [0, 20, 90, 179])
@pytest.mark.parametrize("hz", [110.0, 440.0, 1234.5])
def test_a_phase_jump_is_measured(hz: float, degrees: float) -> None:
    figures = tone_figures(joined(hz, hz, degrees, partials=3), JOINT)
    assert figures.pitch_step_cents == pytest.approx(0, abs=8)
    assert figures.phase_jump_degrees == pytest.approx(degrees, abs=6)


@pytest.mark.parametrize("cents", [-1200, -100, 30, 700])
def test_a_pitch_step_is_measured(cents: float) -> None:
    figures = tone_figures(joined(440, 440 * 2 ** (cents / 1200), 50), JOINT)
    assert figures.pitch_step_cents == pytest.approx(cents, abs=8)
    assert (figures.phase_jump_degrees is None) == (abs(cents) > 50)


def test_noise_and_silence_have_no_pitch() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 2 * JOINT)).astype(np.float32)
    half = np.concatenate([wave(440, JOINT), noise[:, :JOINT]], axis=1)
    for sound in (noise, 0 * noise, half):
        assert tone_figures(sound, JOINT).pitch_step_cents is None
        assert tone_figures(sound, JOINT).phase_jump_degrees is None


def test_a_joint_too_near_an_end_is_not_measured() -> None:
    assert tone_figures(wave(440, 9000), 3000).pitch_step_cents is None
    assert tone_figures(wave(440, 9000), 8000).pitch_step_cents is None
