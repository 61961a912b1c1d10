"""Separates objects that move over a ground from this ground, in a drawn source such as those of the toy world.

An object that moves on uncovers ground that the source's last frame hides. Earlier frames may show it. So a new frame
is made of layers: the ground, and above it the objects, each of which keeps its shape and its velocity (Wang and
Adelson 1994, "Representing moving images with layers"). The velocities are those with which the layers, moved back,
show the source's earlier frames best.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from longtake.carried.inpainting import Mask, inpainted
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

Frames = Sequence[NDArray[Any]]
"""A source's frames, [H, W, 3] each, the nearest one first: in 0..1, or integers of 8 bits, which take less memory."""

Step = NDArray[np.float32]
"""The displacement (x, y) of something in one step of the source, from a frame to the one before it, in pixels."""

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

SAME = 0.03
"""Two colours (0..1) are the same if they differ by less than this."""

DRAWN = 0.6 / 255
"""The ground of a drawn picture does not change: its mean difference between two frames is less than this. That of
footage is at least twice as much, by the noise of the camera."""

MOST_CHANGED = 0.3
"""At most this share of the picture may have changed within six frames. So the ground stands still."""

LEAST_OBJECT = 1 / 500
"""The smallest share of the frame that counts as an object."""

MOST_OBJECTS = 6
"""More objects are not searched, because that would take too long."""

MOST_LEFT = 0.1
"""The layers must explain the source's own frames: of the squared difference between two of them, at most this share is
left if the one is made from the layers of the other."""

MAY_BE_LEFT = 0.3
"""Layers that leave this share or more are of no use. What leaves less, and not less than MOST_LEFT, is doubtful."""

BOUNCE = 0.86
"""An object bounces off an edge of the frame when its centre is this close to it, as a share of how far the object
reaches from its centre, in the mean over all directions."""

CUT = 0.6
"""An edge that touches an object along this share of its side cuts it: a part of the object is outside the frame."""

MARGIN = 1 / 50
"""The colours of an object run over its edge by about this share of the frame's height, because videos have colours of
half the resolution."""

WHOLE = 0.7
"""At least this share of an object's outline stands out from what is around it, and of the outline behind it."""


@dataclass(frozen=True)
class Layers:
    """The layers of a source's frame next to the new frames.

    nearest: that frame, [H, W, 3] in 0..1. At the edge of an object it has the object's colour, without the ground's.
    ground: the same without its objects, [H, W, 3] in 0..1.
    alphas: for each object, how much of each pixel it covers, [n, H, W] in 0..1.
    steps: for each object, its displacement in one step to the frame before, [n, 2] in pixels.
    unexplained: how much of the source's motion they do not explain (see `left`), less than MAY_BE_LEFT.
    """

    nearest: Pictures
    ground: Pictures
    alphas: NDArray[np.float32]
    steps: NDArray[np.float32]
    unexplained: float = 0.0

    @classmethod
    def of(cls, frames: NDArray[np.uint8]) -> "Layers | None":
        """Returns the layers, which may be doubtful, or None if they do not explain how the source moves.

        frames: the source's frames [T, H, W, 3], the nearest one first.
        """
        doubtful = []

        @cache
        def small(number: int) -> Pictures:
            return scaled_down(frames[number], *SEARCHED_SIZE)

        for lags in (LAGS, LAGS[:3], LAGS[:2]):
            found = _separated(list(frames[: 2 * lags[-1]]), small, lags) if lags[-1] < len(frames) else None
            if found and found.are_sure:
                return found
            doubtful += [found] if found else []
        return min(doubtful, key=lambda layers: layers.unexplained, default=None)

    @property
    def are_sure(self) -> bool:
        """True if they explain the source's motion so well that it surely goes on in this way."""
        return self.unexplained < MOST_LEFT

    def carried(self, new_frames: Pictures, distances: Sequence[int]) -> Pictures:
        """Returns frames [t, H, W, 3] in 0..1 in place of the model's new frames.

        new_frames: the model's frames, which are not used.
        distances: for each frame, the number of new frames between the source and this frame: 0 for the frame next to
            the source.
        """
        return np.clip([self.drawn(distance + 1) for distance in distances], 0, 1)

    def drawn(self, steps: float) -> Pictures:
        """Returns a frame [H, W, 3] in 0..1 that is `steps` frames after the nearest one, or before it if negative."""
        places, picture = pixel_places(*self.ground.shape[:2]), self.ground
        for alpha, step in zip(self.alphas, self.steps, strict=True):
            way = step * np.float32(-steps)
            there = places - (bounced(alpha, way) if steps > 0 else way)
            share = cv2.remap(alpha, there, None, cv2.INTER_LINEAR, borderValue=0)[..., None]
            picture = picture + share * (sampled(self.nearest, there) - picture)
        return picture

    def are_whole(self) -> bool:
        """Returns True if each object stands out from what is around it, also on the side that it moves away from.

        Otherwise it is a part of something, for example the end of a bar that grows.
        """
        contrast = cv2.morphologyEx(self.nearest, cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8)).max(axis=-1)
        places = pixel_places(*self.ground.shape[:2])
        for alpha, step in zip(self.alphas, self.steps, strict=True):
            mask = (alpha > 0.5).astype(np.uint8)
            outline = mask - cv2.erode(mask, np.ones((3, 3), np.uint8))
            there = places + step / np.float32(max(np.hypot(*step), 1e-6)) * 3
            behind = outline & (1 - cv2.remap(mask, there, None, cv2.INTER_NEAREST, borderValue=0))
            for part in (outline, behind):
                if not part.any() or (contrast[part > 0] > SAME).mean() < WHOLE:
                    return False
        return True

    def left(self, frames: Frames, lags: Sequence[int]) -> float:
        """Returns how much of the source's motion the layers do not explain: 0 for nothing, 1 for all.

        It is the squared error of earlier frames that are made from the layers, divided by that of the nearest frame in
        their place. It is infinite if the layers show nothing of an earlier frame.
        """
        shares, places = [], pixel_places(*self.ground.shape[:2])
        for lag in lags:
            shown, known = as_picture(frames[lag]), np.ones(self.ground.shape[:2], np.bool_)
            for alpha, step in zip(self.alphas, self.steps, strict=True):
                if at_edge(alpha).any():  # what an earlier frame shows of the parts outside the nearest one is unknown
                    there = places - step * lag
                    whole = cv2.remap(alpha, there, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
                    known &= whole == cv2.remap(alpha, there, None, cv2.INTER_LINEAR, borderValue=0)
            if not known.any():
                return math.inf
            change = float(np.square(self.nearest - shown)[known].mean())
            shares.append(float(np.square(self.drawn(-lag) - shown)[known].mean()) / max(change, 1e-9))
        return max(shares)


def _separated(frames: Frames, small: Callable[[int], Pictures], lags: Sequence[int]) -> Layers | None:
    """Returns the layers of a source, or None if they do not explain how it moves.

    frames: the source's frames.
    small: returns one of them by its number, scaled down.
    lags: the numbers of the frames with which the nearest one is compared.
    """
    nearest, farthest = as_picture(frames[0]), as_picture(frames[lags[-1]])
    areas = _parts(_differs(small(0), small(lags[0])))
    changed = _differs(small(0), small(lags[1])).mean()
    if not 0 < len(areas) <= MOST_OBJECTS or not 0 < changed <= MOST_CHANGED:
        return None
    same = _differs(nearest, farthest) == 0
    if not same.any() or np.abs(nearest - farthest)[same].mean() > DRAWN:
        return None
    flow = rough_flow(small_luma(small(0)), small_luma(small(lags[0]))) / np.float32(lags[0])
    moves = length(flow) > LEAST_STEP
    if not all((moves & (area > 0)).any() for area in areas):
        return None
    pictures = [small(number) for number in range(len(frames))]
    steps = [np.median(flow[moves & (area > 0)], axis=0) for area in areas]
    areas, steps = _without_repetition(pictures, lags, areas, steps)
    if len(areas) > 1 and lags == LAGS[:2]:  # within so few frames, two objects look like the two edges of one
        return None
    steps = _searched(pictures, lags, areas, steps)
    (height, width), (rows, columns) = nearest.shape[:2], pictures[0].shape[:2]
    scale = np.array([width / columns, height / rows], np.float32)
    steps = [step * scale for step in steps]
    large = [cv2.resize(area, (width, height), interpolation=cv2.INTER_NEAREST) for area in areas]
    masks = [_object(frames, lags, area, step) for area, step in zip(large, steps, strict=True)]
    layers = _layers(frames, masks, steps)
    enters = any(leaves(alpha, step).any() for alpha, step in zip(layers.alphas, layers.steps, strict=True))
    left = math.inf if enters else layers.left(frames, lags)
    if left >= MAY_BE_LEFT or not layers.are_whole():
        return None
    edge = round(height * MARGIN) + 1
    colours, alphas = unmixed(layers.nearest, layers.ground, layers.alphas, edge)
    return replace(layers, nearest=colours, alphas=alphas, unexplained=left)


def bounced(alpha: NDArray[np.float32], way: Step) -> Step:
    """Returns how far an object has moved, if it bounces off the frame's edges, as in the toy world. An object that an
    edge cuts already moves on across this edge.

    alpha: how much of each pixel it covers where it starts, [H, W].
    way: how far it would have moved without edges, (x, y) in pixels.
    """
    area = float(alpha.sum())
    outlines, _ = cv2.findContours((alpha > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not outlines:
        return way
    height, width = alpha.shape
    centre = np.array([(alpha.sum(0) * np.arange(width)).sum(), (alpha.sum(1) * np.arange(height)).sum()]) / area
    around = cv2.arcLength(cv2.convexHull(np.concatenate(outlines)), True)
    reach = BOUNCE * (around / (2 * math.pi) + 0.5)  # Cauchy's formula; outlines run through the middles of pixels
    low = np.minimum(0, reach - centre)
    high = np.maximum(0, np.array([width - 1, height - 1]) - reach - centre)
    room = np.maximum(high - low, 1e-3)
    back: Step = (low + room - np.abs((way - low) % (2 * room) - room)).astype(np.float32)
    return np.where(leaves(alpha, way), way, back)


def leaves(alpha: NDArray[np.float32], way: Step) -> NDArray[np.bool_]:
    """Returns for each axis (x, y) True if an object moves on across an edge of the frame that cuts it.

    alpha: how much of each pixel it covers, [H, W].
    way: how far it moves, in pixels.

    An edge cuts an object if it touches most of the object's side (CUT). A ball that bounces touches it less.
    """
    mask = alpha > 0.5
    sides = np.array([mask.any(axis=1).sum(), mask.any(axis=0).sum()])
    touched = at_edge(mask)[[0, 1], (way > 0).astype(int)]
    return (touched > 0) & (touched >= CUT * sides)


def at_edge(alpha: NDArray[Any]) -> NDArray[Any]:
    """Returns how much of an object is at the left and right, and at the upper and lower edge of the frame, [2, 2]."""
    return np.array([[alpha[:, 0].sum(), alpha[:, -1].sum()], [alpha[0].sum(), alpha[-1].sum()]])


def _without_repetition(
    pictures: Sequence[Pictures], lags: Sequence[int], areas: Sequence[Mask], steps: Sequence[Step]
) -> tuple[list[Mask], list[Step]]:
    """Returns one area and one step for each object, because two areas can contain opposite edges of one object.

    The parameters are those of `_searched`.
    """
    masks = [_object(pictures, lags, area, step) for area, step in zip(areas, steps, strict=True)]
    whole: dict[int, Mask] = {}
    for number, mask in enumerate(masks):
        same = next((first for first in whole if 2 * (mask & masks[first]).sum() > mask.sum()), number)
        whole[same] = whole.get(same, areas[number]) | areas[number]
    return list(whole.values()), [steps[number] for number in whole]


def _searched(
    pictures: Sequence[Pictures], lags: Sequence[int], areas: Sequence[Mask], steps: Sequence[Step]
) -> list[Step]:
    """Returns the steps of the objects with which the layers explain the source best.

    pictures, lags: as in `_separated`; scaled down.
    areas, steps: for each object, an area that contains a part of it, and its step as far as it is known.
    """
    steps = list(steps)
    masks = [_object(pictures, lags, area, step) for area, step in zip(areas, steps, strict=True)]

    def tried(number: int, step: Step) -> tuple[float, Step, Mask]:
        """Returns what is left (see `Layers.left`) if an object has this step, the step, and the object's mask."""
        mask = _object(pictures, lags, areas[number], step)
        layers = _layers(
            pictures,
            [*masks[:number], mask, *masks[number + 1 :]],
            [*steps[:number], step, *steps[number + 1 :]],
        )
        return layers.left(pictures, lags[1:]), step, mask

    for number, start in enumerate(steps):
        best = tried(number, start)
        for size in SEARCH:
            around = [(best[1] + np.array(way) * size).astype(np.float32) for way in AROUND]
            best = min(best, *(tried(number, step) for step in around), key=lambda each: each[0])
        _, steps[number], masks[number] = best
    return steps


def _layers(frames: Frames, masks: Sequence[Mask], steps: Sequence[Step]) -> Layers:
    """Returns the layers of a source.

    frames: the source's frames.
    masks: for each object, its pixels in the nearest frame.
    steps: the step of each object.
    """
    nearest, (ground, known) = as_picture(frames[0]), _ground(frames, masks, steps)
    visible = np.clip(np.abs(nearest - ground).max(axis=-1) / np.float32(SAME) - 1, 0, 1)
    edge = np.ones((3, 3), np.uint8)
    alphas = np.stack([connected(np.where(known, _grown(mask), cv2.dilate(mask, edge)) * visible) for mask in masks])
    return Layers(nearest, ground, alphas.astype(np.float32), np.stack(steps))


def _differs(one: Pictures, other: Pictures) -> Mask:
    """Returns where two pictures have different colours."""
    difference = cv2.GaussianBlur(np.abs(one - other).max(axis=-1), (0, 0), 1)
    different: Mask = (difference > SAME).astype(np.uint8)
    return different


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
    nearest, places = as_picture(frames[0]), pixel_places(*area.shape)
    sure, unlike = np.zeros_like(area), np.ones_like(area)
    for lag in lags:
        shown = as_picture(frames[lag])
        unlike_object = _differs(nearest, sampled(shown, places + step * np.float32(lag)))
        sure |= _differs(nearest, shown) & (1 - unlike_object)
        unlike &= unlike_object
    whole = np.zeros_like(area)
    for part in _parts(sure):
        if (part & area).any():
            whole |= part
    return whole & (1 - unlike)


def _ground(frames: Frames, masks: Sequence[Mask], steps: Sequence[Step]) -> tuple[Pictures, Mask]:
    """Returns the nearest frame without its objects, [H, W, 3] in 0..1, and 1 where a frame shows its ground, else 0.

    A pixel that an object covers is taken from the nearest earlier frame in which none covers it. Where all frames show
    an object, the ground around is continued.

    The parameters are those of `_layers`.
    """
    places = pixel_places(*masks[0].shape)
    wide = [_grown(mask) for mask in masks]
    unknown = np.max(wide, axis=0)
    ground = as_picture(frames[0]).copy()
    for number in range(2, len(frames), 2):
        if not unknown.any():
            return ground, 1 - unknown
        hidden = np.zeros_like(unknown)
        for mask, step in zip(wide, steps, strict=True):
            there = places - step * np.float32(number)
            hidden |= cv2.remap(mask, there, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
        shown = (unknown & (1 - hidden)) > 0
        ground[shown] = as_picture(frames[number][shown])
        unknown &= hidden
    filled, guessed = inpainted(ground, unknown)
    return filled, 1 - guessed
