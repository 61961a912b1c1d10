"""The arithmetic that the plans of both families share, and the evaluations of 0.9.x guidance."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.families.ltxv.plan import Pass
from longtake.families.ltxv.profiles import DEV, NONE, TINY, Guidance
from longtake.media.timeline import Timeline
from longtake.plans import clip_length, latent_length, model_canvas, padded_length, span_on_clock
from longtake.sampling.levels import linear_quadratic


@given(st.integers(1, 5000))
def test_lengths_are_8k_plus_1(frames: int) -> None:
    assert clip_length(frames) % 8 == padded_length(frames) % 8 == 1
    assert clip_length(frames) <= frames <= padded_length(frames) < clip_length(frames) + 8 + 1
    assert latent_length(padded_length(frames), 8) == (padded_length(frames) - 1) // 8 + 1


RATES = st.sampled_from(
    [Fraction(rate) for rate in ("1", "7", "12", "24000/1001", "24", "25", "30", "50", "60", "120")]
)


@given(st.integers(1, 400), st.integers(0, 399), RATES, RATES, st.booleans(), st.booleans())
def test_a_resampled_source_keeps_the_frame_at_the_joint(
    num_frames: int, start: int, rate: Fraction, clock: Fraction, joint_first: bool, variable: bool
) -> None:
    """The others are as far apart as the rate says."""
    start = min(start, num_frames - 1)
    span = span_on_clock(start, num_frames, rate, clock, joint_first=joint_first)
    line = Timeline(tuple(range(num_frames)), num_frames, 1 / rate, rate, num_frames, variable)
    shown = line.stored(span)
    assert shown[0 if joint_first else -1] == (start if joint_first else num_frames - 1) or clock > rate
    assert shown[-1] == num_frames - 1 or joint_first
    assert all(abs(after - before - rate / clock) <= 1 for before, after in pairwise(shown))
    assert shown[0] >= start or clock >= rate
    assert span.shift == 0 or clock < rate


def test_a_source_at_one_frame_per_second_ends_with_its_last_frame() -> None:
    line = Timeline(tuple(range(65)), 65, Fraction(1, 24), Fraction(24), 65, False)
    assert line.stored(span_on_clock(0, 65, Fraction(24), Fraction(1))) == [16, 40, 64]
    assert line.stored(span_on_clock(0, 65, Fraction(24), Fraction(1), joint_first=True)) == [0, 24, 48]
    assert line.stored(span_on_clock(0, 65, Fraction(24), Fraction(24))) == list(range(65))
    assert line.stored(span_on_clock(0, 65, Fraction(24), Fraction(1), reverse=True, joint_first=True)) == [48, 24, 0]


def test_canvases() -> None:
    assert model_canvas((1280, 704), None, 32) == (1280, 704)
    assert model_canvas((1280, 704), 64, 16) == (112, 64)
    assert model_canvas((480, 832), 64, 16) == (64, 112)
    assert model_canvas((704, 704), 64, 16) == (64, 64)


@pytest.mark.parametrize(("t", "bin"), [(1.0, 0), (0.999, 1), (0.9950, 2), (0.98, 4), (0.618, 6), (0.1, 6)])
def test_guidance_bins(t: float, bin: int) -> None:
    assert DEV.bin(t) == bin


def test_only_needed_evaluations_are_planned() -> None:
    assert DEV.evaluations(1.0) == 1
    assert DEV.evaluations(0.99) == 3
    assert DEV.evaluations(0.5) == 2
    assert Guidance().evaluations(0.5) == 1


@pytest.mark.parametrize("guidance", [DEV, TINY])
def test_every_bin_has_all_scales(guidance: Guidance) -> None:
    count = len(guidance.timesteps)
    assert {len(guidance.cfg), len(guidance.stg), len(guidance.rescale), len(guidance.blocks)} == {count}
    assert list(guidance.timesteps) == sorted(guidance.timesteps, reverse=True)
    assert all(blocks or not stg for stg, blocks in zip(guidance.stg, guidance.blocks, strict=True))


def test_evaluations_are_counted_level_by_level() -> None:
    assert Pass((64, 64), 40, 0, 0, DEV).evaluations == 91
    assert Pass((64, 64), 8, 5, 0, NONE).evaluations == 3


@pytest.mark.parametrize("steps", [1, 2, 7, 8, 40, 50])
def test_noise_levels_without_torch_are_32_bit_floats(steps: int) -> None:
    """So a plan counts evaluations at exactly the levels that the sampler evaluates."""
    levels = linear_quadratic(steps)
    assert levels == np.array(levels, np.float32).tolist()
