"""Separates objects that move over a ground from this ground, in a drawn source such as those of the toy world.

The velocities of the objects are those with which the layers, moved back, show the source's earlier frames best.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from longtake.carried.difference import SAME, largest, smooth_size, unlike
from longtake.carried.inpainting import Mask, inpainted
from longtake.carried.layers import Frames, Layers, Step
from longtake.carried.matting import connected, unmixed
from longtake.carried.optical_flow import (
    Pictures,
    as_picture,
    length,
    pixel_places,
    rough_flow,
    sampled,
    scaled_down,
    small_luma,
)

LAGS = (2, 6, 12, 24)
"""The source's last frame is compared with those that are this many frames earlier. If the objects have not moved
steadily for so long, the last one or the last two are left out."""

SEARCHED_SIZE = (256, 64)
"""Velocities are searched in frames that are scaled down to at most this many columns and rows."""

SEARCH = (0.3, 0.12, 0.05, 0.02)
"""The search changes a velocity by these lengths, in pixels per step, one after the other."""

AROUND = tuple(way for way in itertools.product((-1, 0, 1), repeat=2) if any(way))
"""The directions in which it changes the velocity."""

LEAST_STEP = 0.1
"""A pixel moves if it is displaced by more than this in one step, in pixels of such a frame."""

DRAWN = 0.6 / 255
"""The ground of a drawn picture does not change: its mean difference between two frames is less than this. That of
footage is at least twice as much, by the noise of the camera."""

MOVED = 2.0 / 255
"""The same if frames are moved onto each other before."""

MOST_CHANGED = 0.3
"""At most this share of the picture may have changed within six frames. So the ground stands still."""

LEAST_OBJECT = 1 / 500
"""The smallest share of the frame that counts as an object."""

MOST_OBJECTS = 6
"""More objects are not searched, because that would take too long."""

MAY_BE_LEFT = 0.3
"""Layers that leave this share of the source's motion unexplained, or more, are of no use."""

MARGIN = 1 / 50
"""The colours of an object run over its edge by about this share of the frame's height, because videos have colours of
half the resolution."""


@dataclass(frozen=True)
class Film:
    """A source whose ground stands still.

    count: the number of its frames.
    frame: returns the frame of a number, [H, W, 3] in 0..1. The nearest one has the number 0 and is complete. An
        earlier one is NaN where it shows nothing.
    drift: the displacement (x, y) of the ground on the screen in one step, from a frame to the one before it. None if
        the camera stands still. Otherwise the frames have been moved onto the nearest one, which adds some noise.
    """

    count: int
    frame: Frames
    drift: Step | None = None

    @classmethod
    def of(cls, frames: NDArray[np.uint8]) -> "Film":
        """Returns the film of a source whose camera stands still.

        frames: its frames [T, H, W, 3], the nearest one first.
        """
        return cls(len(frames), lambda number: as_picture(frames[number]))


def separated(film: Film) -> Layers | None:
    """Returns the layers of a film, which may be doubtful, or None if they do not explain how it moves."""
    doubtful = []

    @cache
    def small(number: int) -> Pictures:
        return scaled_down(film.frame(number), *SEARCHED_SIZE)

    for lags in (LAGS, LAGS[:3], LAGS[:2]):
        found = _separated(film, small, lags) if lags[-1] < film.count else None
        if found and found.are_sure:
            return found
        doubtful += [found] if found else []
    return min(doubtful, key=lambda layers: layers.unexplained, default=None)


def _separated(film: Film, small: Frames, lags: Sequence[int]) -> Layers | None:
    """Returns the layers of a film, or None if they do not explain how it moves.

    small: its frames, scaled down.
    lags: the numbers of the frames with which the nearest one is compared.
    """
    areas = _parts(_differs(small(0), small(lags[0])))
    changed = _differs(small(0), small(lags[1])).mean()
    if not 0 < len(areas) <= MOST_OBJECTS or not 0 < changed <= MOST_CHANGED:
        return None
    nearest, farthest = film.frame(0), film.frame(lags[-1])
    same = _alike(nearest, farthest)
    if not same.any() or np.abs(nearest - farthest)[same > 0].mean() > (DRAWN if film.drift is None else MOVED):
        return None
    flow = rough_flow(small_luma(small(0)), small_luma(_completed(small(lags[0]), small(0)))) / np.float32(lags[0])
    moves = length(flow) > LEAST_STEP
    moving = [area for area in areas if (moves & (area > 0)).any()]
    if not moving or (len(moving) < len(areas) and film.drift is None):  # in frames that have been moved, it is noise
        return None
    areas = moving
    count = min(film.count, 2 * lags[-1])
    steps = [np.median(flow[moves & (area > 0)], axis=0) for area in areas]
    areas, steps = _without_repetition(small, lags, areas, steps)
    if len(areas) > 1 and lags == LAGS[:2]:  # within so few frames, two objects look like the two edges of one
        return None
    steps = _searched(small, count, lags, areas, steps)
    (height, width), (rows, columns) = nearest.shape[:2], small(0).shape[:2]
    scale = np.array([width / columns, height / rows], np.float32)
    steps = [step * scale for step in steps]
    large = [cv2.resize(area, (width, height), interpolation=cv2.INTER_NEAREST) for area in areas]
    masks = [_object(film.frame, lags, area, step) for area, step in zip(large, steps, strict=True)]
    layers = _layers(film.frame, count, masks, steps)
    # Within two steps, what moves changes little more than the noise of frames that have been moved.
    left = layers.left(film.frame, lags if film.drift is None else lags[1:])
    if left >= MAY_BE_LEFT or not layers.are_whole() or layers.come_in(film.drift):
        return None
    edge = round(height * MARGIN) + 1
    colours, alphas = unmixed(layers.nearest, layers.ground, layers.alphas, edge)
    return replace(layers, nearest=colours, alphas=alphas, unexplained=left)


def _without_repetition(
    frames: Frames, lags: Sequence[int], areas: Sequence[Mask], steps: Sequence[Step]
) -> tuple[list[Mask], list[Step]]:
    """Returns one area and one step for each object, because two areas can contain opposite edges of one object.

    The parameters are those of `_searched`.
    """
    masks = [_object(frames, lags, area, step) for area, step in zip(areas, steps, strict=True)]
    whole: dict[int, Mask] = {}
    for number, mask in enumerate(masks):
        same = next((first for first in whole if 2 * (mask & masks[first]).sum() > mask.sum()), number)
        whole[same] = whole.get(same, areas[number]) | areas[number]
    return list(whole.values()), [steps[number] for number in whole]


def _searched(
    frames: Frames, count: int, lags: Sequence[int], areas: Sequence[Mask], steps: Sequence[Step]
) -> list[Step]:
    """Returns the steps of the objects with which the layers explain the source best.

    frames, count, lags: as in `_separated`; scaled down.
    areas, steps: for each object, an area that contains a part of it, and its step as far as it is known.
    """
    steps = list(steps)
    masks = [_object(frames, lags, area, step) for area, step in zip(areas, steps, strict=True)]

    def tried(number: int, step: Step) -> tuple[float, Step, Mask]:
        """Returns what is left (see `Layers.left`) if an object has this step, the step, and the object's mask."""
        mask = _object(frames, lags, areas[number], step)
        layers = _layers(
            frames,
            count,
            [*masks[:number], mask, *masks[number + 1 :]],
            [*steps[:number], step, *steps[number + 1 :]],
        )
        return layers.left(frames, lags[1:]), step, mask

    for number, start in enumerate(steps):
        best = tried(number, start)
        for size in SEARCH:
            around = [(best[1] + np.array(way) * size).astype(np.float32) for way in AROUND]
            best = min(best, *(tried(number, step) for step in around), key=lambda each: each[0])
        _, steps[number], masks[number] = best
    return steps


def _layers(frames: Frames, count: int, masks: Sequence[Mask], steps: Sequence[Step]) -> Layers:
    """Returns the layers of a source.

    frames: the source's frames, of which the first `count` are used.
    masks: for each object, its pixels in the nearest frame.
    steps: the step of each object.
    """
    nearest, (ground, known) = frames(0), _ground(frames, count, masks, steps)
    visible = np.clip(largest(np.abs(nearest - ground)) / np.float32(SAME) - 1, 0, 1)
    edge = np.ones((3, 3), np.uint8)
    solid = cv2.morphologyEx((visible > 0).astype(np.uint8), cv2.MORPH_OPEN, edge)  # without lines of the ground
    alphas = np.stack(
        [connected(np.where(known, mask | (_grown(mask) & solid), cv2.dilate(mask, edge)) * visible) for mask in masks]
    )
    return Layers(nearest, ground, alphas.astype(np.float32), np.stack(steps))


def _differs(one: Pictures, other: Pictures) -> Mask:
    """Returns where two pictures have different colours. They do not where one of them shows nothing (NaN)."""
    return unlike(one - other).astype(np.uint8)


def _alike(one: Pictures, other: Pictures) -> Mask:
    """Returns where two pictures have the same colours. They do not where one of them shows nothing (NaN)."""
    alike: Mask = (smooth_size(one - other) <= SAME).astype(np.uint8)
    return alike


def _completed(picture: Pictures, other: Pictures) -> Pictures:
    """Returns a picture that shows another one where it shows nothing (NaN) itself."""
    return np.where(np.isnan(picture), other, picture)


def _parts(mask: Mask) -> list[Mask]:
    """Returns the connected parts of a mask, without holes and dents, and without parts that are too small."""
    closed = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    outlines, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    parts = []
    for outline in outlines:
        part = cv2.fillConvexPoly(np.zeros_like(mask), cv2.convexHull(outline), 1)
        if part.mean() >= LEAST_OBJECT:
            parts.append(part)
    return parts


def _grown(mask: Mask) -> Mask:
    """Returns a mask with all pixels within the distance MARGIN of it."""
    margin = round(len(mask) * MARGIN) + 1
    grown: Mask = cv2.dilate(mask, np.ones((2 * margin + 1,) * 2, np.uint8))
    return grown


def _object(frames: Frames, lags: Sequence[int], area: Mask, step: Step) -> Mask:
    """Returns the pixels of the nearest frame that show an object.

    Their outline encloses the pixels that an earlier frame shows where the object was, and not in the same place.
    Within the outline, pixels that no earlier frame shows there do not belong to the object.
    """
    nearest, places = frames(0), pixel_places(*area.shape)
    sure, unlike = np.zeros_like(area), np.ones_like(area)
    for lag in lags:
        shown = frames(lag)
        moved_back = sampled(shown, places + step * np.float32(lag))
        sure |= _differs(nearest, shown) & _alike(nearest, moved_back)
        unlike &= _differs(nearest, moved_back)
    whole = np.zeros_like(area)
    for part in _parts(sure):
        if (part & area).any():
            whole |= part
    return whole & (1 - unlike)


def _ground(frames: Frames, count: int, masks: Sequence[Mask], steps: Sequence[Step]) -> tuple[Pictures, Mask]:
    """Returns the nearest frame without its objects, [H, W, 3] in 0..1, and 1 where a frame shows its ground, else 0.

    A pixel that an object covers is taken from the nearest earlier frame in which none covers it. Where all frames show
    an object, the ground around is continued.

    The parameters are those of `_layers`.
    """
    places = pixel_places(*masks[0].shape)
    wide = [_grown(mask) for mask in masks]
    unknown = np.max(wide, axis=0)
    ground = frames(0).copy()
    for number in range(2, count, 2):
        if not unknown.any():
            return ground, 1 - unknown
        hidden = np.zeros_like(unknown)
        for mask, step in zip(wide, steps, strict=True):
            there = places - step * np.float32(number)
            hidden |= cv2.remap(mask, there, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
        earlier = frames(number)
        shown = ((unknown & (1 - hidden)) > 0) & ~np.isnan(earlier[..., 0])
        ground[shown] = earlier[shown]
        unknown &= ~shown
    filled, guessed = inpainted(ground, unknown)
    return filled, 1 - guessed
