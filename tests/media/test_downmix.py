"""Mixing to stereo: the weights of the channels, and a limiter that acts only where the mix would clip."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.media.downmix import REACH_S, limited, mixed, weights
from longtake.media.sound import Samples

RATE = 48_000
REACH = round(REACH_S * RATE)


def waves(seed: int, length: int, level: float = 0.3, channels: int = 2) -> Samples:
    return np.random.default_rng(seed).normal(0, level, (channels, length)).astype(np.float32)


def in_blocks(samples: Samples, size: int) -> Iterator[Samples]:
    for start in range(0, samples.shape[1], size):
        yield samples[:, start : start + size]


def limit(samples: Samples, size: int = 1 << 30) -> Samples:
    return np.concatenate(list(limited(in_blocks(samples, size), RATE)), axis=1)


def test_stereo_is_unchanged_and_mono_is_copied() -> None:
    stereo = waves(0, 100)
    assert mixed(stereo, ("FL", "FR")) is stereo
    np.testing.assert_array_equal(mixed(stereo[:1], ("FC",)), stereo[[0, 0]])


@pytest.mark.parametrize(
    ("names", "left", "right"),
    [
        (("FL", "FR", "LFE"), [1, 0, 0], [0, 1, 0]),
        (("FL", "FR", "FC", "LFE", "SL", "SR"), [1, 0, 0.7071, 0, 0.7071, 0], [0, 1, 0.7071, 0, 0, 0.7071]),
        (("FL", "FR", "FC", "BC"), [1, 0, 0.7071, 0.5], [0, 1, 0.7071, 0.5]),
        (("NONE", "NONE", "NONE", "NONE"), [1, 0, 0.7071, 0], [0, 1, 0, 0.7071]),
        (tuple(f"USR{n}" for n in range(16)), [1 / 16] * 16, [1 / 16] * 16),
        (("FL", "BL"), [0.5, 0.5], [0.5, 0.5]),
    ],
    ids=["2.1", "5.1(side)", "4.0", "unnamed", "16 channels", "left only"],
)
def test_the_weights_of_a_layout(names: tuple[str, ...], left: list[float], right: list[float]) -> None:
    np.testing.assert_allclose(weights(names), [left, right], atol=1e-6)


def test_sound_within_full_scale_is_unchanged() -> None:
    samples = waves(1, 10_000).clip(-1, 1)
    np.testing.assert_array_equal(limit(samples, 700), samples)


@settings(max_examples=20)
@given(seed=st.integers(0, 100), level=st.floats(0.3, 2), length=st.integers(0, 5000), size=st.integers(1, 6000))
def test_no_sample_exceeds_full_scale_in_blocks_of_any_size(seed: int, level: float, length: int, size: int) -> None:
    samples = waves(seed, length, level)
    found = limit(samples, size)
    assert found.shape == samples.shape
    assert np.abs(found).max(initial=0) <= 1 + 1e-6
    np.testing.assert_allclose(found, limit(samples), atol=1e-6)


def test_the_gain_changes_smoothly_and_only_near_a_loud_sample() -> None:
    samples = np.full((2, RATE), 0.5, np.float32)
    samples[:, 20_000] = 2
    found = limit(samples)
    gain = found[0] / samples[0]
    assert gain[20_000] == pytest.approx(0.5, abs=1e-6)
    assert np.abs(np.diff(gain)).max() < 2 / REACH
    changed = np.flatnonzero(gain != 1)
    assert (changed[0], changed[-1]) == (20_000 - 2 * REACH, 20_000 + 2 * REACH)


def test_a_steady_tone_keeps_its_wave() -> None:
    """The gain does not follow single waves, so a tone that is too loud becomes a quieter tone, not a distorted one."""
    wave = 2 * np.sin(2 * np.pi * 120 * np.arange(RATE) / RATE)
    found = limit(np.stack([wave, wave]).astype(np.float32))[0, 2000:-2000]
    spectrum = np.abs(np.fft.rfft(found * np.hanning(found.size)))
    tone = slice(120 * found.size // RATE - 5, 120 * found.size // RATE + 6)
    rest = np.delete(spectrum, np.r_[tone])
    assert 20 * np.log10(spectrum[tone].max() / rest.max()) > 60
