"""Sound: exact lengths on one clock, joints without a click, and both directions."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from longtake.media.formats import SOUND_RATE
from longtake.media.sound import CROSS_FADE_S, fade_in, fade_out, fit, join, num_samples, reverse, silence

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


@given(st.integers(0, 3000), st.integers(0, 3000), st.integers(0, 3000), st.booleans())
def test_join_has_the_length_and_keeps_the_rest(kept: int, new: int, lead: int, continues: bool) -> None:
    old, fresh = hiss(kept, 2), hiss(new + lead, 3)
    joined = join(old, fresh, lead=lead, continues=continues)
    assert joined.shape == (2, kept + new)
    assert joined.dtype == np.float32
    assert (joined[:, : max(0, kept - FADE)] == old[:, : max(0, kept - FADE)]).all()
    touched = 0 if min(lead, kept) else FADE
    assert (joined[:, kept + touched :] == fresh[:, lead + touched :]).all()


def test_a_continuation_is_joined_without_a_trace() -> None:
    """The new sound has the wave that the old one has: mixed linearly, the same wave comes out."""
    joined = join(tone(20_000), tone(11_000, start=19_000), lead=1000, continues=True)
    assert np.abs(joined - tone(30_000)).max() < 1e-6


def test_strangers_are_joined_at_equal_power() -> None:
    """Averaged over many joints, the loudness of two unlike sounds stays level through the fade; linear would dip."""

    def power(continues: bool) -> NDArray[np.float64]:
        joints = [
            join(hiss(2000, seed), hiss(3000, 1000 + seed), lead=1000, continues=continues)[:, 2000 - FADE : 2000]
            for seed in range(200)
        ]
        levels: NDArray[np.float64] = np.square(np.stack(joints)).mean(axis=(0, 1)).reshape(-1, 60).mean(axis=1)
        return levels / 0.01

    assert np.abs(power(continues=False) - 1).max() < 0.05
    assert power(continues=True).min() < 0.6


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
