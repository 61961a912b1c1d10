"""Finds the ground of a source that stands still, and the objects that move over it, and follows them.

The ground is what most of the frames show at a pixel. An object is a connected part of a frame that differs from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from longtake.carried.difference import largest
from longtake.carried.inpainting import Mask

SAME = 8.0
"""Two colours (0..255) are the same if they differ by less than this, smoothed over few pixels."""

COMPARED = 3
"""The ground is found in every third frame."""

COMPARED_AGAIN = 5
"""The ground that they show is compared again with this many frames."""

CLEARLY = 0.8
"""A part of a frame belongs to the ground if the contrast along its edge is less than this share of that of the ground
found so far."""

GLANCED_SIZE = (160, 90)
"""Whether the ground stands still is seen in frames of about this many columns and rows."""

LEAST_BLUR = 5
"""Noise is smoothed over a square of at least this side there, in pixels."""

LEAST_STILL = 0.5
"""At least this share of the picture stands still."""

LEAST_OBJECT = 1 / 500
"""The smallest share of the frame that counts as an object."""

LEAST_PART = 1 / 5000
"""Smaller parts do not belong to an object: they are errors of the video's compression."""

MOST_OBJECTS = 6
"""A source with more objects is not searched."""

BETWEEN = 1 / 30
"""Parts with a gap of less than this share of the frame's height between them belong to one object: a head and a body
whose neck has the colour of the ground."""

MARGIN = 1 / 100
"""The colours of an object run over its edge by about this share of the frame's height, because videos have colours of
half the resolution."""

MOST_GROWTH = 1.6
"""An object whose size changes by more than this factor from frame to frame has met another one."""


@dataclass(frozen=True)
class FollowedObject:
    """An object in consecutive frames.

    first: the number of the first of these frames, 0 for the source's frame next to the new ones.
    masks: 1 for its pixels in each frame, [n, H, W].
    """

    first: int
    masks: Sequence[Mask]

    @cached_property
    def centres(self) -> NDArray[np.float64]:
        """The centre (x, y) of the object in each frame, [n, 2], in pixels."""
        moments = [cv2.moments(mask, binaryImage=True) for mask in self.masks]
        return np.array([[each["m10"] / each["m00"], each["m01"] / each["m00"]] for each in moments])

    def since(self, number: int) -> "FollowedObject":
        """Returns the track without the frames before this one."""
        return FollowedObject(number, self.masks[number - self.first :])


def stands_still(frames: NDArray[np.uint8]) -> bool:
    """Returns True if most of the picture stands still, and something moves. This takes little time.

    frames: the source's frames [T, H, W, 3], the nearest one first.
    """
    columns, rows = GLANCED_SIZE
    step = max(1, min(frames.shape[1] // rows, frames.shape[2] // columns))
    side = max(step, LEAST_BLUR)
    few = [cv2.blur(frame, (side, side))[::step, ::step].astype(np.int16) for frame in frames[:: 2 * COMPARED]]
    changed = np.any([largest(np.abs(few[0] - other)) > SAME for other in few[1:]], axis=0)
    return bool(0 < changed.mean() < 1 - LEAST_STILL)


def still_ground(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns the ground [H, W, 3]: what most frames show where they differ, and elsewhere the nearest frame.

    frames: the source's frames [T, H, W, 3], the nearest one first.
    """
    compared = frames[::COMPARED]
    changed = np.max([differs(frames[0], other) for other in compared[1:]], axis=0)
    changed = grown(changed) > 0
    ground: NDArray[np.uint8] = frames[0].copy()
    ground[changed] = np.median(compared[:, changed], axis=0).round().astype(np.uint8)
    ends = np.where(differs(frames[0], frames[-1])[..., None], ground, frames[0])
    again = frames[np.linspace(0, len(frames) - 1, COMPARED_AGAIN).astype(int)]
    for picture in (ends, *again):
        ground = _without_ghosts(ground, picture)
    return ground


def _without_ghosts(ground: NDArray[np.uint8], frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns a ground without the parts that a frame shows with less contrast along their edges.

    Where a slow object has covered the ground in more than half of the frames, the median shows this object.
    """
    count, labels = cv2.connectedComponents(differs(ground, frame), connectivity=8)
    parts, square = labels.astype(np.uint16), np.ones((5, 5), np.uint8)
    edge = (cv2.dilate(parts, square) > 0) & (cv2.erode(parts, square) == 0)
    owners = cv2.dilate(parts, square)[edge]
    sharp = [np.bincount(owners, _contrast(picture)[edge], minlength=count) for picture in (ground, frame)]
    better = sharp[1] < CLEARLY * sharp[0]
    better[0] = False
    wide = better[cv2.dilate(parts, np.ones((3, 3), np.uint8))]
    clean: NDArray[np.uint8] = np.where(wide[..., None], frame, ground)
    return clean


def _contrast(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Returns how much the colours of a picture [H, W, 3] change around each pixel, [H, W]."""
    change = cv2.morphologyEx(picture, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    return np.asarray(largest(change), np.float64)


def differs(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> Mask:
    """Returns 1 where two pictures [H, W, 3] have different colours, else 0, [H, W]. Noise does not count."""
    change = np.subtract(one, other, dtype=np.int16).astype(np.float32)
    smooth = largest(np.abs(cv2.GaussianBlur(change, (0, 0), 1)))
    different: Mask = (smooth > SAME).astype(np.uint8)
    return different


def grown(mask: Mask) -> Mask:
    """Returns a mask with all pixels within the distance MARGIN of it."""
    wide: Mask = cv2.dilate(mask, _disc(round(len(mask) * MARGIN) + 1))
    return wide


def objects(frame: NDArray[np.uint8], ground: NDArray[np.uint8]) -> list[Mask]:
    """Returns 1 for the pixels of each object that a frame [H, W, 3] shows over the ground, [H, W] each."""
    different = _without_spots(cv2.morphologyEx(differs(frame, ground), cv2.MORPH_CLOSE, _disc(2)))
    joined = cv2.morphologyEx(different, cv2.MORPH_CLOSE, _disc(round(len(frame) * BETWEEN / 2) + 1))
    count, labels = cv2.connectedComponents(joined, connectivity=8)
    sizes = np.bincount(labels[different > 0], minlength=count)
    large = [number for number in range(1, count) if sizes[number] >= LEAST_OBJECT * different.size]
    return [different * (labels == number) for number in large]


def _without_spots(mask: Mask) -> Mask:
    """Returns a mask without parts that are too small to belong to an object."""
    _, labels, figures, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    large = figures[:, cv2.CC_STAT_AREA] >= LEAST_PART * mask.size
    kept: Mask = mask & large[labels].astype(np.uint8)
    return kept


def tracks(frames: NDArray[np.uint8], ground: NDArray[np.uint8]) -> list[FollowedObject]:
    """Returns the objects of the nearest frame, each followed through earlier frames as far as it is alone.

    The result is empty if there are too many.

    frames: the source's frames [T, H, W, 3], the nearest one first.
    """
    found = objects(frames[0], ground)
    if not 0 < len(found) <= MOST_OBJECTS:
        return []
    followed, open_ = [[mask] for mask in found], list(range(len(found)))
    for frame in frames[1:]:
        seen = objects(frame, ground)
        owners = [[number for number in open_ if (part & followed[number][-1]).any()] for part in seen]
        for number in list(open_):
            own = [part for part, owner in zip(seen, owners, strict=True) if number in owner]
            shared = any(len(owner) > 1 for owner in owners if number in owner)
            mask = np.max(own, axis=0) if own else None
            if mask is None or shared or not _like(mask, followed[number][-1]):
                open_.remove(number)
            else:
                followed[number].append(mask)
        if not open_:
            break
    return [FollowedObject(0, masks) for masks in followed]


def _like(one: Mask, other: Mask) -> bool:
    """Returns True if two masks have about the same size."""
    ratio = float(one.sum()) / float(other.sum())
    return 1 / MOST_GROWTH < ratio < MOST_GROWTH


def _disc(radius: int) -> Mask:
    """Returns a disc with this radius in pixels."""
    disc: Mask = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
    return disc
