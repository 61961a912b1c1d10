"""Fills a part of a picture that no frame shows: with the pattern of the rest of the picture, or from its edge."""

import itertools

import cv2
import numpy as np
from numpy.typing import NDArray

from longtake.carried.optical_flow import Pictures

Mask = NDArray[np.uint8]
"""1 for each pixel that belongs to something, else 0, [h, w]."""

SEARCHED_ROWS = 120
"""Places with the same pattern are first searched for in a picture of at most so many rows."""

RING = 1 / 12
"""The pattern is compared in a ring around the part, whose width is this share of the picture's height."""

SAME = 8 / 255
"""Two places have the same pattern if their colours differ by less than this (root mean square)."""

MOST_COMPARED = 4000
"""The most pixels of a ring that are compared to make the place exact."""

MOST_PARTS = 8
"""If there are more unknown parts than this, all are guessed."""

RADIUS = 5
"""How far from the part's edge, in pixels, its colours are taken if nothing else shows the pattern."""


def inpainted(picture: Pictures, unknown: Mask) -> tuple[Pictures, Mask]:
    """Returns the picture with its unknown pixels filled, and a mask that is 1 where they are only guessed.

    Each connected part is copied from a place around which the picture looks as it does around the part, as in stripes.
    If there is no such place, the colours at the part's edge are continued inwards (Telea 2004), which is a guess.

    unknown: 1 for each pixel to fill.
    """
    count, labels = cv2.connectedComponents(unknown, connectivity=8)
    filled, guessed = picture.copy(), np.zeros_like(unknown)
    for number in range(1, count):
        part = (labels == number).astype(np.uint8)
        way = _way_to_the_same(picture, part, unknown) if count <= MOST_PARTS + 1 else None
        if way is None:
            guessed |= part
        else:
            rows, columns = np.nonzero(part)
            filled[rows, columns] = picture[rows + way[1], columns + way[0]]
    if guessed.any():
        eight = (filled * 255).round().astype(np.uint8)
        inner = cv2.inpaint(eight, guessed, RADIUS, cv2.INPAINT_TELEA).astype(np.float32) / 255
        filled = np.where(guessed[..., None] > 0, inner, filled)
    return filled, guessed


def _way_to_the_same(picture: Pictures, part: Mask, unknown: Mask) -> tuple[int, int] | None:
    """Returns the way (x, y) in pixels from a part of the picture to a known place with the same pattern around it.

    It is None if there is no such place. The way is found in a smaller picture first, and then made exact.
    """
    height, width = part.shape
    shrunk = max(1, -(-height // SEARCHED_ROWS))
    size = (width // shrunk, height // shrunk)
    ring = max(1, round(size[1] * RING))
    if min(size) < 2 * ring:
        return None
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    small_part, small_unknown = (
        (cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0).astype(np.uint8)
        for mask in (part, unknown)
    )
    around = cv2.dilate(small_part, np.ones((2 * ring + 1,) * 2, np.uint8))
    left, top, columns, rows = cv2.boundingRect(around)
    box = np.s_[top : top + rows, left : left + columns]
    weight = (around & (1 - small_unknown))[box]
    if not weight.any():
        return None
    errors = _errors(small, small[box], weight)
    hidden = cv2.matchTemplate(small_unknown.astype(np.float32), around[box].astype(np.float32), cv2.TM_CCORR)
    errors[hidden > 0.5] = np.inf
    y, x = np.unravel_index(int(errors.argmin()), errors.shape)
    if errors[y, x] > SAME**2:
        return None
    coarse = (int(x) - left) * shrunk, (int(y) - top) * shrunk
    return _exact(picture, part, unknown, coarse, shrunk)


def _errors(picture: Pictures, pattern: Pictures, weight: Mask) -> NDArray[np.float32]:
    """Returns the mean squared difference of a pattern to the picture, for each place of its upper left corner.

    weight: 1 for each pixel of the pattern that counts.
    """
    weights = np.repeat(weight[..., None].astype(np.float32), 3, axis=2)
    summed: NDArray[np.float32] = cv2.matchTemplate(picture, pattern, cv2.TM_SQDIFF, mask=weights)
    errors: NDArray[np.float32] = np.maximum(summed / weights.sum(), 0)
    return errors


def _exact(picture: Pictures, part: Mask, unknown: Mask, coarse: tuple[int, int], reach: int) -> tuple[int, int] | None:
    """Returns the way with the least difference near a coarse one, which is at most about `reach` pixels off.

    The difference is that of the pixels in a narrow ring around the part. It is None if no way leads to known pixels.
    """
    ring = cv2.dilate(part, np.ones((2 * reach + 5,) * 2, np.uint8)) & (1 - unknown)
    inside, edge = np.argwhere(part), np.argwhere(ring)
    edge = edge[:: max(1, len(edge) // MOST_COMPARED)]
    shown = picture[edge[:, 0], edge[:, 1]]

    def difference(way: tuple[int, int]) -> float:
        """Returns the mean squared difference; infinite if the way leads to unknown pixels or out of the picture."""
        for places in (inside, edge):
            rows, columns = (places + way[::-1]).T
            outside = min(rows.min(), columns.min()) < 0 or rows.max() >= len(part) or columns.max() >= part.shape[1]
            if outside or unknown[rows, columns].any():
                return np.inf
        return float(np.square(shown - picture[rows, columns]).mean())

    best = coarse
    while reach:
        reach //= 2
        step = max(1, reach)
        x, y = best
        best = min(itertools.product((x - step, x, x + step), (y - step, y, y + step)), key=difference)
    return best if difference(best) <= SAME**2 else None
