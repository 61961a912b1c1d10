"""Finds the parts of a moving picture that stand still, such as the bar over a page that scrolls."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from longtake.carried.camera_path import CameraPath, inside, rest
from longtake.carried.difference import SAME, smooth_size
from longtake.carried.inpainting import Mask
from longtake.carried.optical_flow import Pictures, as_picture, pixel_places, sampled
from longtake.carried.plain_ground import plain_colour, strip_width

LEAST_PART = 1 / 500
"""The still parts together are at least this share of the frame."""

MOST_STILL = 0.06
"""A still part differs by less than this from earlier frames, in the mean (0..1)."""

CLEARLY = 0.4
"""A pixel stands still if that leaves less than this share of the difference that its motion leaves, or the reverse."""

MOST_TOUCHED = 0.25
"""A doubtful area that touches moving pixels along less than this share of its border with still ones stands still."""

LEAST_SPOT = 1 / 4000
"""A still part has at least this share of the frame. Smaller spots are errors of the video's compression."""

BETWEEN = 5
"""Still spots with a gap of less than this many pixels between them are one part, in a frame of 240 rows."""

EDGE = 2
"""The edge of a still part is this wide in pixels, in a frame of 240 rows: there its colours mix with those around."""

FILLED_FROM = 3
"""Every third earlier frame is searched for the picture behind the still parts."""


def _better(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Returns where one mean difference of pictures is clearly smaller than another."""
    clearly: NDArray[np.bool_] = (other > SAME) & (one < CLEARLY * other)
    return clearly


def still_parts(frames: Mapping[int, Pictures], path: CameraPath) -> Mask | None:
    """Returns 1 for the pixels of the nearest frame that stand still while the rest moves along a path, else 0.

    Pixels of which both or none can be true belong to the same part as those around of the same colours. The result is
    None if no part stands still.

    frames: number of a frame (0 for the nearest one) -> the frame.
    """
    nearest, lags = frames[0], sorted(frames)[1:]
    size = nearest.shape[:2]
    standing, moving, seen = np.zeros(size, np.float32), np.zeros(size, np.float32), np.zeros(size, np.float32)
    for lag in lags:
        left, shown = rest(nearest, frames[lag], path, lag)
        standing += smooth_size(nearest - frames[lag]) / len(lags)
        moving += smooth_size(left) * shown
        seen += shown
    moving /= np.maximum(seen, 1)
    stands = _without_spots((_better(standing, moving) & (standing < MOST_STILL)).astype(np.uint8))
    moves = _better(moving, standing)
    if stands.mean() < LEAST_PART or not moves.any():
        return None
    return _with_doubtful(stands, moves & (stands == 0))


def _with_doubtful(stands: Mask, moves: NDArray[np.bool_]) -> Mask:
    """Returns the pixels that stand still, with those doubtful areas that hardly touch anything that moves.

    Doubtful are areas of one colour, for example. The ground of a page touches the moving letters, that of a bar the
    letters of the bar and its edge.
    """
    count, labels = cv2.connectedComponents(((stands == 0) & ~moves).astype(np.uint8), connectivity=4)
    touches = [
        np.bincount(labels[cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0], minlength=count)
        for mask in (stands, moves)
    ]
    still = touches[1] < MOST_TOUCHED * touches[0]
    still[0] = False
    whole: Mask = stands | still[labels].astype(np.uint8)
    return whole


def _without_spots(mask: Mask) -> Mask:
    """Returns a mask without parts that are too small."""
    reach = round(BETWEEN * max(1, len(mask) / 240)) // 2 * 2 + 1
    closed = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((reach, reach), np.uint8))
    _, labels, figures, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
    large = figures[:, cv2.CC_STAT_AREA] >= max(4, LEAST_SPOT * mask.size)
    kept: Mask = mask & large[labels]
    return kept


def grown(mask: Mask) -> Mask:
    """Returns a mask of still parts together with their edges."""
    width = 2 * round(EDGE * max(1, len(mask) / 240)) + 1
    wide: Mask = cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)))
    return wide


def behind(frames: Sequence[NDArray[np.uint8]], path: CameraPath, still: Mask) -> Pictures:
    """Returns the nearest frame, [H, W, 3] in 0..1, without its still parts.

    Where an earlier frame shows what is behind them, that is taken. Elsewhere the picture is continued by its mirror
    image or by a plain ground.
    """
    size, wide = still.shape, grown(still)
    places = pixel_places(*size)
    picture, unknown = as_picture(frames[0]).copy(), wide > 0
    for number in range(FILLED_FROM, len(frames), FILLED_FROM):
        if not unknown.any():
            return picture
        there = path.earlier(places, size, number)
        hidden = cv2.remap(wide, there, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) > 0
        found = unknown & inside(there, size) & ~hidden
        if found.any():
            picture[found] = sampled(as_picture(frames[number]), there)[found]
            unknown &= ~found
    return mirrored(picture, unknown)


def mirrored(picture: Pictures, unknown: NDArray[np.bool_]) -> Pictures:
    """Returns a picture whose unknown pixels show the mirror image of the known ones beyond the nearest edge, or the
    ground if that is plain at most of the edge."""
    if not unknown.any() or unknown.all():
        return picture
    filled = picture.copy()
    reach = 2 * strip_width(len(picture)) + 1
    around = (cv2.dilate(unknown.astype(np.uint8), np.ones((reach, reach), np.uint8)) > 0) & ~unknown
    plain = plain_colour(picture[around])
    if plain is not None:
        filled[unknown] = plain
        return filled
    _, labels = cv2.distanceTransformWithLabels(
        unknown.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    rows, columns = np.nonzero(~unknown)
    edges = np.zeros((labels.max() + 1, 2), np.int64)
    edges[labels[rows, columns]] = np.stack([rows, columns], -1)
    here = np.argwhere(unknown)
    edge = edges[labels[unknown]]
    there = np.clip(2 * edge - here, 0, np.array(unknown.shape) - 1)
    there = np.where(unknown[tuple(there.T)][:, None], edge, there)
    filled[unknown] = picture[tuple(there.T)]
    return filled
