"""Continues a picture beyond its edges: with its ground if that is plain, or else with its mirror image.

A mirror image would show objects a second time. So where a picture shows a few objects on a ground, only those that the
edge cuts are mirrored.
"""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from longtake.carried.difference import largest
from longtake.carried.inpainting import inpainted
from longtake.carried.optical_flow import Pictures, sampled

NOISE = 12 / 255
"""The colours of a plain ground differ by at most this (0..1). Most of it is the noise of the video's compression."""

MOST = 0.6
"""At least this share of an edge shows the ground."""

FAINT = 1e-3
"""Where less than this share of the surroundings is ground, it has the colour that it has at the edge."""

MOST_OBJECTS = 6
"""A picture with more objects than this has a pattern or a texture: all of it is mirrored."""

OUTLINE = 1 / 200
"""At its outline, an object's colours mix with those of the ground within about this share of the picture's height."""

STRIP = 1 / 30
"""The edge of a picture is this wide, as a share of its height, but at least three pixels."""


def strip_width(height: int) -> int:
    """Returns how wide the edge of a picture of so many rows is, in pixels."""
    return max(3, round(height * STRIP))


def plain_colour(colours: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Returns the colour that most of the colours [n, 3] have, or None if there is none."""
    middle: NDArray[np.float32] = np.median(colours, axis=0)
    return middle if (largest(np.abs(colours - middle)) <= NOISE).mean() >= MOST else None


@dataclass(frozen=True)
class WidePicture:
    """A picture that goes on beyond its edges.

    Beyond an edge that mostly shows a plain ground, the ground goes on. Only what the edge cuts is continued by its
    mirror image there. Beyond other edges all of the picture is, except for objects that the edge does not cut.

    picture: the picture, [H, W, 3].
    grounds: for each edge, the picture whose mirror image is beyond it: with nothing but its ground and what this edge
        cuts. None if that is all of the picture. The edges are the upper, the right, the lower and the left one.
    """

    picture: Pictures
    grounds: tuple[Pictures | None, ...]

    @classmethod
    def of(cls, picture: Pictures) -> "WidePicture":
        """Returns a picture [H, W, 3] with its grounds."""
        grounds = []
        for turns, alone in enumerate(_without_whole_objects(picture)):
            shown = np.rot90(picture if alone is None else alone, turns)  # turned so that the edge is the upper one
            ground = _without_rest(shown)
            grounds.append(alone if ground is None else np.ascontiguousarray(np.rot90(ground, -turns)))
        return cls(picture, tuple(grounds))

    def at(self, places: NDArray[np.float32]) -> Pictures:
        """Returns the pixels [h, w, 3] at `places` [h, w, 2], which are (x, y) in pixels and may be outside."""
        found = sampled(self.picture, places)
        (x, y), (height, width) = np.moveaxis(places, -1, 0), self.picture.shape[:2]
        for ground, way in zip(self.grounds, (-y, x - (width - 1), y - (height - 1), -x), strict=True):
            beyond = np.clip(way, 0, 1)[..., None]
            if ground is not None and beyond.any():
                found = found + beyond * (sampled(ground, places) - found)
        return found


def _without_rest(picture: Pictures) -> Pictures | None:
    """Returns a picture in which only the ground and what its upper edge cuts is left, or None if the ground is not
    plain, or most of this edge does not show it."""
    strip = picture[: strip_width(len(picture))]
    colour = plain_colour(strip.reshape(-1, 3))
    if colour is None:
        return None
    other = (largest(np.abs(picture - colour)) > NOISE).astype(np.uint8)
    count, labels = cv2.connectedComponents(other, connectivity=8)
    is_cut = np.zeros(count, np.uint8)
    is_cut[labels[0]] = 1
    is_cut[0] = 0
    across = np.intersect1d(labels[:, 0], labels[:, -1])
    if (~np.isin(across, [0, *labels[0], *labels[-1]])).any():
        return None  # a stripe: the ground is a pattern, and more of them may come
    # Colours at the outline of an object differ from the ground by less than the noise.
    wide = cv2.dilate(other, np.ones((3, 3), np.uint8))
    kept = cv2.dilate(is_cut[labels], np.ones((3, 3), np.uint8)) & (1 - (other & (1 - is_cut[labels])))
    ground = (1 - wide).astype(np.float32)
    sigma = len(picture) / 20
    share = cv2.GaussianBlur(ground, (0, 0), sigma)[..., None]
    mean = cv2.GaussianBlur(picture * ground[..., None], (0, 0), sigma)
    filling = (mean + FAINT * colour) / (share + FAINT)
    alone: Pictures = np.where(((1 - wide) | kept)[..., None] > 0, picture, filling)
    return alone


def _without_whole_objects(picture: Pictures) -> list[Pictures | None]:
    """Returns for each edge the picture without those of its objects that this edge does not cut.

    An object is a connected contour with all that it encloses. For an edge the result is None if no object is left out,
    or if one of them reaches from side to side: that is a stripe, and more of them may come. All are None if there are
    more objects than MOST_OBJECTS. The edges are the upper, the right, the lower and the left one.
    """
    height, width = picture.shape[:2]
    contours = largest(cv2.morphologyEx(picture, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))) > NOISE
    objects, _ = cv2.findContours(contours.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if len(objects) > MOST_OBJECTS:
        return [None] * 4
    side = 2 * round(height * OUTLINE) + 3

    @cache
    def without(whole: tuple[int, ...]) -> Pictures:
        mask = cv2.drawContours(np.zeros((height, width), np.uint8), [objects[n] for n in whole], -1, 1, cv2.FILLED)
        return inpainted(picture, cv2.dilate(mask, np.ones((side, side), np.uint8)))[0]

    boxes = [cv2.boundingRect(outline) for outline in objects]
    edges = (
        [(y == 0, w == width) for _, y, w, _ in boxes],
        [(x + w == width, h == height) for x, _, w, h in boxes],
        [(y + h == height, w == width) for _, y, w, h in boxes],
        [(x == 0, h == height) for x, _, _, h in boxes],
    )
    found = list[Pictures | None]()
    for edge in edges:  # for each object: is it cut here, and does it reach from side to side?
        whole = {n: is_stripe for n, (is_cut, is_stripe) in enumerate(edge) if not is_cut}
        found.append(without(tuple(whole)) if whole and not any(whole.values()) else None)
    return found
