"""Where the shot begins that meets the new frames."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.carried.shot import changes, shot_length


def shot(count: int, seed: int, step: int = 2) -> NDArray[np.uint8]:
    """Frames of a picture that moves steadily, the one next to the new frames first."""
    wide = np.random.default_rng(seed).integers(0, 255, (6, 12 + count * step // 16 + 2, 3), np.uint8)
    picture = cv2.GaussianBlur(wide.repeat(16, axis=0).repeat(16, axis=1), (0, 0), 8)
    return np.stack([picture[:, step * number : step * number + 192] for number in range(count)])[::-1]


@pytest.mark.parametrize("length", [1, 2, 4, 13, 30])
def test_it_begins_after_the_last_cut(length: int) -> None:
    frames = np.concatenate([shot(length, 1), shot(40, 2), shot(9, 3)])
    assert shot_length(frames) == length
    if length > 1:  # two frames alone may be of a fast motion
        assert shot_length(frames[: length + 1]) == length


@pytest.mark.parametrize("step", [0, 1, 8])
def test_without_a_cut_it_is_the_whole_source(step: int) -> None:
    frames = shot(33, 1, step)
    assert [shot_length(frames[:count]) for count in (1, 2, 33)] == [1, 2, 33]


def test_a_flash_a_blink_and_a_start_are_no_cuts() -> None:
    flash, blink, start = (shot(33, 1) for _ in range(3))
    flash[9] = 255
    blink[20:, :16, :16] = 255 - blink[20:, :16, :16]
    start[:9] = start[8]
    for frames in (flash, blink, start):
        assert changes(frames).max() > 0
        assert shot_length(frames) == 33
