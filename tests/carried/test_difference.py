"""Two pictures differ where their colours do, and not by their noise."""

import numpy as np

from longtake.carried.difference import SAME, smooth_size, unlike


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
