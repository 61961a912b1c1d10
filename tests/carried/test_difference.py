"""Two pictures differ where their colours do, and not by their noise."""

from typing import Any

import numpy as np
import pytest

from longtake.carried.difference import SAME, largest, smooth_size, unlike


def test_a_colour_differs_and_noise_does_not() -> None:
    difference = np.random.default_rng(0).normal(0, SAME / 4, (40, 60, 3)).astype(np.float32)
    assert not unlike(difference).any()
    difference[10:20, 30:40, 1] += 3 * SAME
    found = unlike(difference)
    assert found[11:19, 31:39].all()
    assert not found[:7].any()
    assert not found[:, :27].any()


def test_where_nothing_is_shown_nothing_differs() -> None:
    difference = np.ones((20, 20, 3), np.float32)
    difference[:, 10:] = np.nan
    assert np.isnan(smooth_size(difference)[:, 12:]).all()
    assert not unlike(difference)[:, 12:].any()
    assert unlike(difference)[:, :5].all()


@pytest.mark.parametrize("kind", [np.float32, np.int16, np.uint8])
def test_the_largest_colour_is_numpy_s(kind: type[Any]) -> None:
    colours = (np.random.default_rng(0).normal(0, 100, (20, 30, 3)) % 255).astype(kind)
    if kind is np.float32:
        colours[4, 5, 1] = np.nan
    assert np.array_equal(largest(colours), colours.max(axis=-1), equal_nan=kind is np.float32)
    assert largest(colours).dtype == kind
