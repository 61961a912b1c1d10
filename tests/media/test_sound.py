"""Sound: exact lengths, joints without a click, and both directions."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from longtake.inspect.joint import loudness_step
from longtake.media.formats import SOUND_RATE
from longtake.media.sound import (
    GAIN_RETURN_S,
    MAX_GAIN,
    MAX_LAG_S,
    amplified,
    best_lag,
    continue_sound,
    cross_fade,
    fade_in,
    fade_out,
    fit_length,
    loudness,
    matching_gain,
    num_samples,
    reverse,
    silence,
)

RATES = st.fractions(min_value=1, max_value=60, max_denominator=1001)
FADE = 720
"""Samples of a cross-fade: 15 ms at 48 kHz."""


def tone(length: int, hz: float = 200.0, start: int = 0, level: float = 0.5) -> NDArray[np.float32]:
    wave = level * np.sin(2 * np.pi * hz * (start + np.arange(length)) / 48_000)
    return np.stack([wave, wave]).astype(np.float32)


def noise(length: int, seed: int, level: float = 0.1) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, level, (2, length)).astype(np.float32)


def click(samples: NDArray[np.float32]) -> float:
    """The largest second difference, which is large where the wave or its slope jumps."""
    return float(np.abs(np.diff(samples.astype(np.float64), n=2)).max())


@given(RATES, st.integers(0, 20_000))
def test_the_length_is_within_half_a_sample_of_the_exact_one(rate: Fraction, num_frames: int) -> None:
    assert abs(num_samples(num_frames, rate) - num_frames * 48_000 / rate) <= Fraction(1, 2)


def test_lengths_must_be_counted_from_the_start() -> None:
    rate = Fraction(30_000, 1001)
    total = num_samples(3001, rate)
    assert total == 4_806_402
    assert 3001 * num_samples(1, rate) != total


@given(st.integers(0, 50), st.integers(0, 50))
def test_fit_length_cuts_or_pads_with_silence(length: int, wanted: int) -> None:
    samples = noise(length, 0)
    got = fit_length(samples, wanted)
    assert got.shape == (2, wanted)
    assert got.dtype == np.float32
    common = min(length, wanted)
    assert (got[:, :common] == samples[:, :common]).all()
    assert not got[:, common:].any()


def test_reverse_is_its_own_inverse() -> None:
    samples = noise(999, 1)
    assert (reverse(samples)[:, 0] == samples[:, -1]).all()
    assert (reverse(reverse(samples)) == samples).all()


def test_fades_change_only_one_end() -> None:
    samples = np.ones((2, 48_000), np.float32)
    out, into = fade_out(samples), fade_in(samples)
    assert (out[:, :-FADE] == 1).all()
    assert (into[:, FADE:] == 1).all()
    assert (np.diff(out[0, -FADE:]) < 0).all()
    assert out[0, -1] < 1e-5
    assert into[0, 0] < 1e-5
    assert (samples == 1).all()


def test_a_fade_to_silence_does_not_click() -> None:
    """A tone cut at its peak clicks; after a fade its second difference is that of the tone itself."""
    source = tone(12_060)
    assert abs(source[0, -1]) > 0.4
    cut = np.concatenate([source, silence(5000)], axis=1)
    joined = cross_fade(source, silence(5000))
    assert joined.shape == (2, 17_060)
    assert not joined[:, 12_060:].any()
    assert click(joined) < 1.5 * click(source)
    assert click(cut) > 100 * click(source)


@given(st.integers(0, 3000), st.integers(0, 3000), st.integers(0, 3000), st.floats(0, 1))
def test_a_cross_fade_changes_only_the_overlap(source: int, new: int, lead: int, correlation: float) -> None:
    old, fresh = noise(source, 2), noise(new + lead, 3)
    joined = cross_fade(old, fresh, lead=lead, correlation=correlation)
    assert joined.shape == (2, source + new)
    assert joined.dtype == np.float32
    assert (joined[:, : max(0, source - FADE)] == old[:, : max(0, source - FADE)]).all()
    touched = 0 if min(lead, source) else FADE
    assert (joined[:, source + touched :] == fresh[:, lead + touched :]).all()


def test_a_cross_fade_of_one_wave_gives_that_wave() -> None:
    joined = cross_fade(tone(20_000), tone(11_000, start=19_000), lead=1000, correlation=1)
    assert np.abs(joined - tone(30_000)).max() < 1e-6


def test_uncorrelated_sounds_are_joined_at_equal_power() -> None:
    """Averaged over many joints the loudness is constant through the fade; equal gain would dip."""

    def power(correlation: float) -> NDArray[np.float64]:
        joints = [
            cross_fade(noise(2000, seed), noise(3000, 1000 + seed), lead=1000, correlation=correlation)[
                :, 2000 - FADE : 2000
            ]
            for seed in range(200)
        ]
        levels: NDArray[np.float64] = np.square(np.stack(joints)).mean(axis=(0, 1)).reshape(-1, 60).mean(axis=1)
        return levels / 0.01

    assert np.abs(power(correlation=0) - 1).max() < 0.05
    assert power(correlation=1).min() < 0.6


@pytest.mark.parametrize("lead", [0, FADE, 5000])
@pytest.mark.parametrize("hz", [333.0, 61.0])
def test_a_change_of_tone_does_not_click(lead: int, hz: float) -> None:
    old, new = tone(12_060), tone(12_000 + lead, hz, start=17)
    own = max(click(old), click(new))
    assert click(np.concatenate([old, new[:, lead:]], axis=1)) > 20 * own
    assert click(cross_fade(old, new, lead=lead)) < 3 * own


def test_new_sound_after_silence_fades_in_before_the_joint() -> None:
    joined = cross_fade(silence(5000), tone(5000 + 1000), lead=1000)
    assert not joined[:, : 5000 - FADE].any()
    assert click(joined) < 3 * click(tone(5000))


SOURCE, LEAD, NEW = 30_000, 20_000, 60_000


def phase(samples: NDArray[np.float32], hz: float, start: int, length: int = 1440) -> float:
    """The phase in radians, relative to sample 0, of the sine of frequency `hz` in the 30 ms from `start`."""
    turns = 2 * np.pi * hz * (start + np.arange(length)) / 48_000
    basis = np.stack([np.sin(turns), np.cos(turns)], axis=1)
    (sine, cosine), *_ = np.linalg.lstsq(basis, samples[0, start : start + length].astype(np.float64))
    return float(np.arctan2(cosine, sine))


def phase_jump(samples: NDArray[np.float32], hz: float, joint: int) -> float:
    """The change of phase in degrees from before the cross-fade to after the joint."""
    change = phase(samples, hz, joint) - phase(samples, hz, joint - FADE - 1440)
    return abs(float(np.degrees((change + np.pi) % (2 * np.pi) - np.pi)))


@given(st.integers(0, 6000), st.integers(0, 6000), st.integers(0, 6000), st.floats(0, 2), st.floats(0, 2))
def test_a_continuation_changes_only_the_cross_fade_of_the_source(
    source: int, lead: int, new: int, old_level: float, new_level: float
) -> None:
    old, generated = noise(source, 4, old_level * 0.1), noise(lead + new, 5, new_level * 0.1)
    forward = continue_sound(old, generated, lead)
    assert forward.shape == (2, source + new)
    assert forward.dtype == np.float32
    untouched = max(0, source - FADE)
    assert (forward[:, :untouched] == old[:, :untouched]).all()
    backward = reverse(continue_sound(reverse(old), reverse(generated), lead))
    assert backward.shape == (2, source + new)
    assert (backward[:, new + source - untouched :] == old[:, source - untouched :]).all()


@pytest.mark.parametrize("degrees", [37, 90, 145, 180, 270])
@pytest.mark.parametrize("hz", [55.0, 110.0, 440.0, 1000.0, 2349.0])
def test_a_tone_generated_with_another_phase_and_level_continues(hz: float, degrees: int) -> None:
    """The phase jumps by at most one sample, the loudness does not change, and nothing clicks."""
    source = tone(SOURCE, hz, level=0.3)
    generated = tone(LEAD + NEW, hz, start=SOURCE - LEAD + round(degrees / 360 * 48_000 / hz), level=0.1)
    joined = continue_sound(source, generated, LEAD)
    assert phase_jump(cross_fade(source, generated, lead=LEAD), hz, SOURCE) > 30
    assert phase_jump(joined, hz, SOURCE) <= 360 * hz / 48_000 + 1
    step = loudness_step(joined, SOURCE)
    assert step is not None
    assert abs(step) < 0.3
    assert click(joined[:, : -480 - FADE]) < 1.2 * click(source)
    fade = joined[:, SOURCE - 2 * FADE : SOURCE + FADE]
    assert np.abs(fade).max() < 0.31


def test_the_generated_sound_returns_to_its_own_level() -> None:
    source, generated = tone(SOURCE, 440, level=0.4), tone(LEAD + 100_000, 440, start=SOURCE - LEAD, level=0.2)
    joined = continue_sound(source, generated, LEAD)
    returned = SOURCE + round(GAIN_RETURN_S * SOUND_RATE)
    np.testing.assert_array_equal(joined[:, returned:], generated[:, LEAD + returned - SOURCE :])
    levels = np.abs(joined[0, SOURCE - 4800 : returned + 4800]).reshape(-1, 2400).max(axis=1)
    assert (np.diff(levels) < 1e-3).all()
    assert np.abs(np.diff(20 * np.log10(levels))).max() < 0.6


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_gains_are_bounded(left: float, right: float, generated_left: float, generated_right: float) -> None:
    old = noise(3000, 6) * np.array([[left], [right]], np.float32)
    generated = noise(3000, 7) * np.array([[generated_left], [generated_right]], np.float32)
    gain = matching_gain(old, generated)
    assert (gain >= 1 / MAX_GAIN).all()
    assert (gain <= MAX_GAIN).all()


def test_the_gain_of_near_silence_is_one() -> None:
    assert matching_gain(silence(2000), noise(2000, 8, 1e-5)) == pytest.approx([1, 1], abs=1e-3)
    assert matching_gain(noise(2000, 9, 2e-4), silence(2000)) == pytest.approx([1, 1], abs=0.03)
    assert matching_gain(silence(0), silence(0)).tolist() == [1, 1]


def test_a_gain_does_not_make_the_sound_clip() -> None:
    source, generated = tone(SOURCE, level=0.9), tone(LEAD + NEW, start=SOURCE - LEAD, level=0.3)
    generated[:, LEAD + 20_000 : LEAD + 21_000] *= 3
    assert np.abs(continue_sound(source, generated, LEAD)).max() <= 1


@given(st.floats(1e-5, 1), st.floats(0, 1))
def test_quiet_sound_is_amplified_and_loud_sound_is_unchanged(level: float, least: float) -> None:
    samples = tone(4800, level=level)
    louder = amplified(samples, least)
    peak = float(np.abs(louder).max())
    if loudness(samples) >= least:
        np.testing.assert_array_equal(louder, samples)
    else:
        assert loudness(louder) == pytest.approx(min(least, 0.5**0.5), rel=1e-3)
    assert peak <= 1.0001


def test_silence_and_no_sound_have_no_loudness() -> None:
    assert loudness(silence(0)) == loudness(silence(9)) == 0
    assert not amplified(silence(9), 0.5).any()


@pytest.mark.parametrize("late", [-480, -100, 0, 3, 250, 480])
def test_the_shift_is_found(late: int) -> None:
    """Noise matches at one lag only, also with added noise and another level."""
    whole = noise(SOURCE + NEW + 1000, 10)
    source = whole[:, 500 : 500 + SOURCE]
    first = 500 + SOURCE - LEAD - late
    generated = 0.5 * whole[:, first : first + LEAD + NEW] + noise(LEAD + NEW, 11, 0.02)
    lag, correlation = best_lag(source, generated, LEAD)
    assert lag == late
    assert correlation > 0.85
    joined = continue_sound(source, generated, LEAD)
    expected = whole[:, 500 + SOURCE : 500 + SOURCE + 2000]
    assert np.corrcoef(joined[0, SOURCE : SOURCE + 2000], expected[0])[0, 1] > 0.85


def test_uncorrelated_sounds_are_not_shifted() -> None:
    lag, correlation = best_lag(noise(SOURCE, 12), noise(LEAD + NEW, 13), LEAD)
    assert lag == 0
    assert correlation < 0.3
    assert best_lag(silence(SOURCE), noise(LEAD + NEW, 13), LEAD) == (0, 0)
    assert abs(best_lag(tone(SOURCE), tone(LEAD + NEW, start=123), LEAD)[0]) <= MAX_LAG_S * SOUND_RATE


def test_of_the_many_lags_that_match_a_tone_the_smallest_is_chosen() -> None:
    lag, _ = best_lag(tone(SOURCE, 1000), tone(LEAD + NEW, 1000, start=SOURCE - LEAD + 7), LEAD)
    assert lag == -7


def test_a_shift_is_undone_at_the_end() -> None:
    source, generated = tone(SOURCE), tone(LEAD + 5000, start=SOURCE - LEAD - 100)
    joined = continue_sound(source, generated, LEAD)
    assert np.abs(generated[:, -5000:-1000] - joined[:, -5000:-1000]).max() > 0.1
    np.testing.assert_array_equal(joined[:, -100:], generated[:, -100:])
    assert click(joined) < 3 * click(source)


def test_a_silent_source_stays_silent_up_to_the_joint() -> None:
    joined = continue_sound(silence(SOURCE), tone(LEAD + NEW), LEAD)
    assert not joined[:, :SOURCE].any()
    assert click(joined) < 3 * click(tone(1000))
    assert np.abs(joined[0, SOURCE : SOURCE + 2400]).max() < 0.2
    assert np.abs(joined[0, -5000:]).max() == pytest.approx(0.5, abs=0.01)


def test_channels_keep_their_sides() -> None:
    """A source with sound on the left only is continued on the left only; the right side fades in slowly."""
    source = tone(SOURCE, 440)
    source[1] = 0
    joined = continue_sound(source, tone(LEAD + NEW, 440, start=SOURCE - LEAD, level=0.25), LEAD)
    behind = np.abs(joined[:, SOURCE : SOURCE + 2400]).max(axis=1)
    assert behind[0] == pytest.approx(0.5, abs=0.02)
    assert behind[1] < 0.07


def test_a_tone_before_the_source_leads_into_it() -> None:
    old = tone(SOURCE, 440, start=NEW, level=0.3)
    joined = reverse(continue_sound(reverse(old), reverse(tone(NEW + LEAD, 440, start=31, level=0.1)), LEAD))
    assert phase_jump(joined, 440, NEW + FADE + 1440) < 4
    np.testing.assert_array_equal(joined[:, NEW + FADE :], old[:, FADE:])
