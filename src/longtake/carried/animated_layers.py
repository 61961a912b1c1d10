"""Continues a source in which objects that change their shape move evenly over a ground that stands still.

Examples are figures that walk in a cartoon. Each object goes on as a whole with its mean velocity, while its shape
plays its own last frames: from the beginning if they are a cycle (`longtake.carried.cycle`), else backwards and
forwards. The ground behind it is that of earlier frames and does not change at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from longtake.carried.cycle import Cycle
from longtake.carried.difference import largest
from longtake.carried.grain import Grain
from longtake.carried.matting import unmixed
from longtake.carried.optical_flow import Pictures, as_picture, pixel_places, sampled, shrunk
from longtake.carried.separation import DRAWN
from longtake.carried.still_ground import SAME, FollowedObject, grown, stands_still, still_ground, tracks

SMALL = (512, 256)
"""Frames with more rows are searched only if objects are found in frames that are scaled down to at most this many
columns and rows."""

TESTED = 8
"""The number of the source's last frames that the frames before them must predict."""

LEAST_FRAMES = 9
"""An object must be followed through at least so many frames before them."""

MOST_LEFT = 0.25
"""The prediction leaves at most this share of the squared difference between these frames and the one before them."""

STANDS = 0.1
"""An object that moves by less than this in a frame, in pixels, stays in its place."""

EDGE = 2
"""The edge of an object is this wide in pixels, in a frame of 240 rows: there its colours mix with the ground's."""


@dataclass(frozen=True)
class Sprite:
    """An object as a frame shows it.

    corner: (x, y) of its upper left pixel. colours: [h, w, 3] in 0..1. alpha: how much of each pixel it covers,
    [h, w, 1] in 0..1. It is 0 at all borders.
    """

    corner: tuple[int, int]
    colours: Pictures
    alpha: NDArray[np.float32]

    @classmethod
    def of(cls, frame: NDArray[np.uint8], ground: NDArray[np.uint8], mask: NDArray[np.uint8]) -> "Sprite":
        """Returns an object of a frame [H, W, 3]. `mask` is 1 for its pixels, [H, W]."""
        wide = grown(mask)
        left, top, columns, rows = cv2.boundingRect(wide)
        box = np.s_[top : top + rows, left : left + columns]
        shown, behind = as_picture(frame[box]), as_picture(ground[box])
        difference = largest(np.abs(shown - behind)) * np.float32(255 / SAME)
        inner = cv2.erode(mask[box], np.ones((3, 3), np.uint8))
        alpha = np.maximum(inner, np.clip(difference - 1, 0, 1)) * wide[box]
        edge = round(EDGE * max(1, len(mask) / 240))
        colours, alphas = unmixed(shown, behind, alpha[None].astype(np.float32), edge)
        sides = ((1, 1), (1, 1), (0, 0))
        alpha = np.pad(alphas[0][..., None], sides)
        return cls((left - 1, top - 1), np.pad(colours, sides, mode="edge"), alpha)

    def drawn(self, picture: Pictures, way: NDArray[np.float64]) -> None:
        """Draws the object into a picture [H, W, 3], so far (x, y) from its place, in pixels."""
        place = np.array(self.corner) + way
        whole = np.floor(place).astype(int)
        columns, rows = self.alpha.shape[1] + 1, self.alpha.shape[0] + 1
        low = np.maximum(whole, 0)
        high = np.minimum(whole + np.array([columns, rows]), picture.shape[1::-1])
        if (high <= low).any():
            return
        across, down = (np.arange(low[axis], high[axis]) - place[axis] for axis in (0, 1))
        there = np.stack(np.meshgrid(across, down), axis=-1).astype(np.float32)
        share = cv2.remap(self.alpha, there, None, cv2.INTER_LINEAR, borderValue=0)[..., None]
        under = picture[low[1] : high[1], low[0] : high[0]]
        under += share * (sampled(self.colours, there) - under)


@dataclass(frozen=True)
class AnimatedObject:
    """An object, and how it goes on.

    sprites: the object in the source's frames, the nearest one first.
    """

    sprites: Sequence[Sprite]
    cycle: Cycle

    @classmethod
    def of(cls, frames: NDArray[np.uint8], ground: NDArray[np.uint8], track: FollowedObject) -> "AnimatedObject":
        """Returns a followed object.

        frames: the source's frames [T, H, W, 3], the nearest one first.
        ground: the same without objects, [H, W, 3].
        """
        cycle = Cycle.of(frames, ground, track)
        numbers = range(cycle.period or cycle.reach + 1)
        sprites = [Sprite.of(frames[track.first + number], ground, track.masks[number]) for number in numbers]
        return cls(sprites, cycle)

    def enters(self, size: tuple[int, ...]) -> bool:
        """Returns True if it comes in across an edge of the frame of `size` (H, W): a part of it is not known."""
        for sprite in self.sprites:
            low = np.array(sprite.corner) + 1
            high = low + sprite.alpha.shape[1::-1] - 2
            if ((low <= 0) & (self.cycle.velocity > STANDS)).any():
                return True
            if ((high >= size[1::-1]) & (self.cycle.velocity < -STANDS)).any():
                return True
        return False

    def drawn(self, picture: Pictures, steps: int) -> None:
        """Draws the object into a picture, as it is `steps` frames after the nearest one."""
        self.sprites[self.cycle.number(steps)].drawn(picture, self.cycle.way(steps))


@dataclass(frozen=True)
class AnimatedLayers:
    """The layers of a source.

    ground: the frame next to the new frames without its objects, [H, W, 3] in 0..1.
    objects: its objects, the farthest one first. The lower its foot, the nearer is an object.
    grain: the noise of the ground. None if it is drawn.
    """

    ground: Pictures
    objects: Sequence[AnimatedObject]
    grain: Grain | None = None

    @classmethod
    def of(cls, frames: NDArray[np.uint8]) -> "AnimatedLayers | None":
        """Returns the layers, or None if they do not explain how the source moves.

        frames: the source's frames [T, H, W, 3], the nearest one first.
        """
        if len(frames) < TESTED + LEAST_FRAMES or not stands_still(frames):
            return None
        if len(frames[0]) > SMALL[1] and cls.of(shrunk(frames, *SMALL)) is None:
            return None  # this takes less time
        ground = still_ground(frames)
        found = tracks(frames, ground)
        if not found or not all(_is_proven(frames, ground, track) for track in found):
            return None
        found.sort(key=lambda track: int(np.nonzero(track.masks[0].any(axis=1))[0][-1]))
        hidden = grown(np.max([track.masks[0] for track in found], axis=0))
        picture = as_picture(np.where(hidden[..., None] > 0, ground, frames[0]))
        objects = [AnimatedObject.of(frames, ground, track) for track in found]
        if any(each.enters(picture.shape[:2]) for each in objects):
            return None
        still = ~np.any(frames[0] != ground, axis=-1)
        noise = np.abs(as_picture(frames[0]) - as_picture(frames[2]))[still].mean()
        motionless = np.zeros((*picture.shape[:2], 2), np.float32)
        return cls(picture, objects, Grain.of(frames, motionless) if noise > DRAWN else None)

    def drawn(self, steps: int) -> Pictures:
        """Returns a frame [H, W, 3] in 0..1 that is `steps` frames after the nearest one."""
        picture = self.ground.copy()
        for each in self.objects:
            each.drawn(picture, steps)
        if self.grain:
            picture += self.grain.at(picture, pixel_places(*picture.shape[:2]), steps - 1)
        return picture


def _is_proven(frames: NDArray[np.uint8], ground: NDArray[np.uint8], track: FollowedObject) -> bool:
    """Returns True if an object's earlier frames predict its last ones."""
    if len(track.masks) < TESTED + LEAST_FRAMES:
        return False
    earlier = AnimatedObject.of(frames, ground, track.since(TESTED))
    left = change = 0.0
    for number in range(0, TESTED, 2):
        made = as_picture(ground).copy()
        earlier.drawn(made, TESTED - number)
        region = grown(np.max(track.masks[number : TESTED + 1], axis=0)) > 0
        shown = as_picture(frames[number])
        left += float(np.square(made - shown)[region].sum())
        change += float(np.square(as_picture(frames[TESTED]) - shown)[region].sum())
    return left <= MOST_LEFT * change
