"""Keeps a source's grain alive in new frames that are made of one frame of the source.

Film grain, the noise of a camera and traces of compression change with every frame. Without them the new frames would
look frozen. So each new frame takes small differences from another one of the source's last frames.
"""

import itertools
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from longtake.carried.optical_flow import Field, Pictures, as_picture, sampled

GRAIN_FRAMES = 9
"""The new frames take their grain from this many frames of the source."""

GRAIN_STRIDE = 2
"""The distance between the two frames of the source from which neighbouring new frames take their grain. It is not 1,
because neighbouring frames of a source with repeated frames can be equal."""

MAX_GRAIN = 0.04
"""A difference of this much (0..1) between two frames counts 1/e as grain, a greater one less: it is something that has
moved or changed."""

MEASURED = 4
"""The strength of the grain is measured at one pixel of each square of this many by this many."""


@dataclass(frozen=True)
class Grain:
    """The grain of a source.

    frames: the source's frames next to the new ones, [T, H, W, 3], the nearest one first.
    step: the displacement of each pixel of the nearest frame in one step to the next frame of `frames`, in pixels of
        small frames, [h, w, 2].
    strength: the factor, 0..1, for the grain that is added.
    """

    frames: NDArray[np.uint8]
    step: Field
    strength: float

    @classmethod
    def of(cls, frames: NDArray[np.uint8], step: Field) -> "Grain":
        """Returns the grain of a source.

        Its strength is 1 if the nearest frame differs from the others as much as these differ from each other. It is
        less if the nearest frame differs more, so that the picture does not jump at the first new frame.

        frames: the source's frames [T, H, W, 3], the nearest one first.
        step: as in the class.
        """
        count = min(len(frames), GRAIN_FRAMES)
        grain = cls(frames[:count], step, 1.0)
        height, width = frames.shape[1:3]
        rows, columns = np.mgrid[0:height:MEASURED, 0:width:MEASURED]
        places = np.dstack([columns, rows]).astype(np.float32)
        nearest = as_picture(frames[0, ::MEASURED, ::MEASURED])
        differences = [grain._difference(nearest, places, number) for number in range(1, count)]
        if len(differences) < 2:
            return grain
        size = np.median([np.abs(one).mean() for one in differences])
        change = np.median([np.abs(one - other).mean() for one, other in itertools.pairwise(differences)])
        return cls(grain.frames, step, float(np.clip(change / max(size, 1e-6), 0, 1)))

    def at(self, drawn: Pictures, places: NDArray[np.float32], distance: int) -> Pictures:
        """Returns the grain [H, W, 3] to be added to a new frame.

        drawn: the new frame, [H, W, 3]: the pixels of the nearest frame of the source at `places`.
        places: for each pixel of the new frame its place (x, y) in the nearest frame of the source, [H, W, 2].
        distance: the number of new frames between the source and the new frame.
        """
        number = GRAIN_STRIDE * (distance + 1) % len(self.frames)
        return np.float32(self.strength) * self._difference(drawn, places, number)

    def _difference(self, drawn: Pictures, places: NDArray[np.float32], number: int) -> Pictures:
        """Returns how the source's frame `number` differs from `drawn` [h, w, 3] where that is small, otherwise 0.

        places: for each pixel of `drawn` its place (x, y) in the nearest frame of the source, [h, w, 2].
        """
        scale = np.float32(self.frames.shape[1] / self.step.shape[0])
        step = cv2.remap(self.step, places / scale, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        there = places + scale * np.float32(number) * step
        other = sampled(as_picture(self.frames[number]), there) - drawn
        small: Pictures = other * np.exp(-np.square(other / MAX_GRAIN).sum(axis=-1, keepdims=True))
        return small
