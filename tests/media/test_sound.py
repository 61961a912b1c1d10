"""Sound: exact lengths on one clock, joints without a click, and both directions."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from longtake.inspect.joint import loudness_step
from longtake.media.formats import SOUND_RATE
from longtake.media.sound import (
    CROSS_FADE_S,
    GAIN_RETURN_S,
    MOST_GAIN,
    MOST_LAG_S,
    best_lag,
    continue_sound,
    fade_in,
    fade_out,
    fit,
    join,
    matching_gain,
    num_samples,
    precede_sound,
    reverse,
    silence,
)

RATES = st.fractions(min_value=1, max_value=60, max_denominator=1001)
FADE = 720


def tone(length: int, hz: float = 200.0, start: int = 0, level: float = 0.5) -> NDArray[np.float32]:
    wave = level * np.sin(2 * np.pi * hz * (start + np.arange(length)) / 48_000)
    return np.stack([wave, wave]).astype(np.float32)


def hiss(length: int, seed: int, level: float = 0.1) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, level, (2, length)).astype(np.float32)


def click(samples: NDArray[np.float32]) -> float:
    """The largest second difference: what a jump of the wave or of its slope shows in."""
    return float(np.abs(np.diff(samples.astype(np.float64), n=2)).max())


@given(RATES, st.integers(0, 20_000))
def test_length_follows_the_count_to_half_a_sample(rate: Fraction, num_frames: int) -> None:
    assert abs(num_samples(num_frames, rate) - num_frames * 48_000 / rate) <= Fraction(1, 2)


def test_lengths_of_pieces_add_up_only_when_counted_from_the_start() -> None:
    rate = Fraction(30_000, 1001)
    total = num_samples(3001, rate)
    assert total == 4_806_402
    assert 3001 * num_samples(1, rate) != total


@given(st.integers(0, 50), st.integers(0, 50))
def test_fit_cuts_or_fills(length: int, wanted: int) -> None:
    given_ = hiss(length, 0)
    got = fit(given_, wanted)
    assert got.shape == (2, wanted)
    assert got.dtype == np.float32
    kept = min(length, wanted)
    assert (got[:, :kept] == given_[:, :kept]).all()
    assert not got[:, kept:].any()


def test_reverse_is_its_own_inverse() -> None:
    given_ = hiss(999, 1)
    assert (reverse(given_)[:, 0] == given_[:, -1]).all()
    assert (reverse(reverse(given_)) == given_).all()


def test_fades_touch_only_their_end() -> None:
    given_ = np.ones((2, 48_000), np.float32)
    out, came = fade_out(given_), fade_in(given_)
    assert (out[:, :-FADE] == 1).all()
    assert (came[:, FADE:] == 1).all()
    assert (np.diff(out[0, -FADE:]) < 0).all()
    assert out[0, -1] < 1e-5
    assert came[0, 0] < 1e-5
    assert (given_ == 1).all()


def test_an_end_in_silence_does_not_click() -> None:
    """A tone cut at its crest jumps; faded first, its second difference is what the tone's own is."""
    kept = tone(12_060)
    assert abs(kept[0, -1]) > 0.4
    cut = np.concatenate([kept, silence(5000)], axis=1)
    joined = join(kept, silence(5000))
    assert joined.shape == (2, 17_060)
    assert not joined[:, 12_060:].any()
    assert click(joined) < 1.5 * click(kept)
    assert click(cut) > 100 * click(kept)


@given(st.integers(0, 3000), st.integers(0, 3000), st.integers(0, 3000), st.floats(0, 1))
def test_join_has_the_length_and_keeps_the_rest(kept: int, new: int, lead: int, likeness: float) -> None:
    old, fresh = hiss(kept, 2), hiss(new + lead, 3)
    joined = join(old, fresh, lead=lead, likeness=likeness)
    assert joined.shape == (2, kept + new)
    assert joined.dtype == np.float32
    assert (joined[:, : max(0, kept - FADE)] == old[:, : max(0, kept - FADE)]).all()
    touched = 0 if min(lead, kept) else FADE
    assert (joined[:, kept + touched :] == fresh[:, lead + touched :]).all()


def test_a_continuation_is_joined_without_a_trace() -> None:
    """The new sound has the wave that the old one has: mixed linearly, the same wave comes out."""
    joined = join(tone(20_000), tone(11_000, start=19_000), lead=1000, likeness=1)
    assert np.abs(joined - tone(30_000)).max() < 1e-6


def test_strangers_are_joined_at_equal_power() -> None:
    """Averaged over many joints, the loudness of two unlike sounds stays level through the fade; linear would dip."""

    def power(likeness: float) -> NDArray[np.float64]:
        joints = [
            join(hiss(2000, seed), hiss(3000, 1000 + seed), lead=1000, likeness=likeness)[:, 2000 - FADE : 2000]
            for seed in range(200)
        ]
        levels: NDArray[np.float64] = np.square(np.stack(joints)).mean(axis=(0, 1)).reshape(-1, 60).mean(axis=1)
        return levels / 0.01

    assert np.abs(power(likeness=0) - 1).max() < 0.05
    assert power(likeness=1).min() < 0.6


@pytest.mark.parametrize("lead", [0, FADE, 5000])
@pytest.mark.parametrize("hz", [333.0, 61.0])
def test_a_change_of_tone_does_not_click(lead: int, hz: float) -> None:
    old, new = tone(12_060), tone(12_000 + lead, hz, start=17)
    own = max(click(old), click(new))
    assert click(np.concatenate([old, new[:, lead:]], axis=1)) > 20 * own
    assert click(join(old, new, lead=lead)) < 3 * own


def test_new_sound_from_silence_rises_before_the_joint() -> None:
    joined = join(silence(5000), tone(5000 + 1000), lead=1000)
    assert not joined[:, : 5000 - FADE].any()
    assert click(joined) < 3 * click(tone(5000))


def test_the_fade_is_as_long_as_said() -> None:
    assert round(CROSS_FADE_S * SOUND_RATE) == FADE


KEPT, LEAD, NEW = 30_000, 20_000, 60_000


def phase(samples: NDArray[np.float32], hz: float, start: int, length: int = 1440) -> float:
    """Of the sine of this frequency in the 30 ms from `start` on, in radians against the clock of sample 0."""
    turns = 2 * np.pi * hz * (start + np.arange(length)) / 48_000
    basis = np.stack([np.sin(turns), np.cos(turns)], axis=1)
    (sine, cosine), *_ = np.linalg.lstsq(basis, samples[0, start : start + length].astype(np.float64))
    return float(np.arctan2(cosine, sine))


def phase_jump(samples: NDArray[np.float32], hz: float, joint: int) -> float:
    """In degrees, from what is before the cross-fade to what is behind the joint."""
    change = phase(samples, hz, joint) - phase(samples, hz, joint - FADE - 1440)
    return abs(float(np.degrees((change + np.pi) % (2 * np.pi) - np.pi)))


@given(st.integers(0, 6000), st.integers(0, 6000), st.integers(0, 6000), st.floats(0, 2), st.floats(0, 2))
def test_a_continuation_keeps_lengths_and_all_but_the_fade(
    kept: int, lead: int, new: int, old_level: float, new_level: float
) -> None:
    old, made = hiss(kept, 4, old_level * 0.1), hiss(lead + new, 5, new_level * 0.1)
    forward = continue_sound(old, made, lead)
    assert forward.shape == (2, kept + new)
    assert forward.dtype == np.float32
    untouched = max(0, kept - FADE)
    assert (forward[:, :untouched] == old[:, :untouched]).all()
    backward = precede_sound(made, old, lead)
    assert backward.shape == (2, kept + new)
    assert (backward[:, new + kept - untouched :] == old[:, kept - untouched :]).all()


@pytest.mark.parametrize("degrees", [37, 90, 145, 180, 270])
@pytest.mark.parametrize("hz", [55.0, 110.0, 440.0, 1000.0, 2349.0])
def test_a_tone_rendered_with_another_phase_and_level_goes_on(hz: float, degrees: int) -> None:
    """The phase jumps by about a sample's turn at most, the loudness not at all, and nothing clicks."""
    kept = tone(KEPT, hz, level=0.3)
    made = tone(LEAD + NEW, hz, start=KEPT - LEAD + round(degrees / 360 * 48_000 / hz), level=0.1)
    joined = continue_sound(kept, made, LEAD)
    assert phase_jump(join(kept, made, lead=LEAD), hz, KEPT) > 30
    assert phase_jump(joined, hz, KEPT) <= 360 * hz / 48_000 + 1
    step = loudness_step(joined, KEPT)
    assert step is not None
    assert abs(step) < 0.3
    assert click(joined[:, : -480 - FADE]) < 1.2 * click(kept)
    fade = joined[:, KEPT - 2 * FADE : KEPT + FADE]
    assert np.abs(fade).max() < 0.31


def test_the_model_s_own_level_comes_back() -> None:
    kept, made = tone(KEPT, 440, level=0.4), tone(LEAD + 100_000, 440, start=KEPT - LEAD, level=0.2)
    joined = continue_sound(kept, made, LEAD)
    returned = KEPT + round(GAIN_RETURN_S * SOUND_RATE)
    np.testing.assert_array_equal(joined[:, returned:], made[:, LEAD + returned - KEPT :])
    levels = np.abs(joined[0, KEPT - 4800 : returned + 4800]).reshape(-1, 2400).max(axis=1)
    assert (np.diff(levels) < 1e-3).all()
    assert np.abs(np.diff(20 * np.log10(levels))).max() < 0.6


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_gains_are_bounded(left: float, right: float, made_left: float, made_right: float) -> None:
    old = hiss(3000, 6) * np.array([[left], [right]], np.float32)
    made = hiss(3000, 7) * np.array([[made_left], [made_right]], np.float32)
    gain = matching_gain(old, made)
    assert (gain >= 1 / MOST_GAIN).all()
    assert (gain <= MOST_GAIN).all()


def test_gain_of_near_silence_is_one() -> None:
    """Neither is the noise floor raised to a room tone nor the other way round."""
    assert matching_gain(silence(2000), hiss(2000, 8, 1e-5)) == pytest.approx([1, 1], abs=1e-3)
    assert matching_gain(hiss(2000, 9, 2e-4), silence(2000)) == pytest.approx([1, 1], abs=0.03)
    assert matching_gain(silence(0), silence(0)).tolist() == [1, 1]


def test_nothing_is_raised_until_it_clips() -> None:
    kept, made = tone(KEPT, level=0.9), tone(LEAD + NEW, start=KEPT - LEAD, level=0.3)
    made[:, LEAD + 20_000 : LEAD + 21_000] *= 3
    assert np.abs(continue_sound(kept, made, LEAD)).max() <= 1


@pytest.mark.parametrize("late", [-480, -100, 0, 3, 250, 480])
def test_the_shift_is_found(late: int) -> None:
    """Of a sound without a pitch there is one place only, also under the model's noise and level."""
    whole = hiss(KEPT + NEW + 1000, 10)
    kept = whole[:, 500 : 500 + KEPT]
    first = 500 + KEPT - LEAD - late
    made = 0.5 * whole[:, first : first + LEAD + NEW] + hiss(LEAD + NEW, 11, 0.02)
    lag, likeness = best_lag(kept, made, LEAD)
    assert lag == late
    assert likeness > 0.85
    joined = continue_sound(kept, made, LEAD)
    expected = whole[:, 500 + KEPT : 500 + KEPT + 2000]
    assert np.corrcoef(joined[0, KEPT : KEPT + 2000], expected[0])[0, 1] > 0.85


def test_strangers_are_not_shifted() -> None:
    lag, likeness = best_lag(hiss(KEPT, 12), hiss(LEAD + NEW, 13), LEAD)
    assert lag == 0
    assert likeness < 0.3
    assert best_lag(silence(KEPT), hiss(LEAD + NEW, 13), LEAD) == (0, 0)
    assert abs(best_lag(tone(KEPT), tone(LEAD + NEW, start=123), LEAD)[0]) <= MOST_LAG_S * SOUND_RATE


def test_of_a_tone_s_many_places_the_nearest_is_taken() -> None:
    lag, _ = best_lag(tone(KEPT, 1000), tone(LEAD + NEW, 1000, start=KEPT - LEAD + 7), LEAD)
    assert lag == -7


def test_a_shift_that_runs_out_is_taken_back_at_the_end() -> None:
    kept, made = tone(KEPT), tone(LEAD + 5000, start=KEPT - LEAD - 100)
    joined = continue_sound(kept, made, LEAD)
    assert np.abs(made[:, -5000:-1000] - joined[:, -5000:-1000]).max() > 0.1
    np.testing.assert_array_equal(joined[:, -100:], made[:, -100:])
    assert click(joined) < 3 * click(kept)


def test_a_source_without_sound_stays_silent_up_to_the_joint() -> None:
    joined = continue_sound(silence(KEPT), tone(LEAD + NEW), LEAD)
    assert not joined[:, :KEPT].any()
    assert click(joined) < 3 * click(tone(1000))
    assert np.abs(joined[0, KEPT : KEPT + 2400]).max() < 0.2
    assert np.abs(joined[0, -5000:]).max() == pytest.approx(0.5, abs=0.01)


def test_channels_keep_their_sides() -> None:
    """A source that sounds on the left alone is continued on the left, and comes to the model's own image slowly."""
    kept = tone(KEPT, 440)
    kept[1] = 0
    joined = continue_sound(kept, tone(LEAD + NEW, 440, start=KEPT - LEAD, level=0.25), LEAD)
    behind = np.abs(joined[:, KEPT : KEPT + 2400]).max(axis=1)
    assert behind[0] == pytest.approx(0.5, abs=0.02)
    assert behind[1] < 0.07


def test_backwards_is_the_mirror() -> None:
    kept, made = hiss(KEPT, 14), hiss(LEAD + NEW, 15, 0.2)
    np.testing.assert_array_equal(
        precede_sound(made, kept, LEAD), reverse(continue_sound(reverse(kept), reverse(made), LEAD))
    )
    old = tone(KEPT, 440, start=NEW, level=0.3)
    joined = precede_sound(tone(NEW + LEAD, 440, start=31, level=0.1), old, LEAD)
    assert phase_jump(joined, 440, NEW + FADE + 1440) < 4
    np.testing.assert_array_equal(joined[:, NEW + FADE :], old[:, FADE:])
