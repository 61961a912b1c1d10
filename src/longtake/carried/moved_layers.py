"""Separates a drawn source into layers at an earlier frame, where its last frame shows objects that overlap.

Objects that touch or overlap look like one that changes its shape. In an earlier frame they may be apart. The layers of
that frame are moved on to the last one and, if they show what it and the frames between show, on into the new frames.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from longtake.carried.layers import MOST_LEFT, Layers
from longtake.carried.optical_flow import Pictures, as_picture, shrunk
from longtake.carried.separation import Film, separated

AHEAD = (6, 12, 18, 24)
"""The layers are searched in the frames that are so many frames before the last one."""

SMALL = (448, 256)
"""The frame is chosen in frames that are scaled down to at most this many columns and rows, which takes less time."""


@dataclass(frozen=True)
class MovedLayers:
    """The layers of an earlier frame of the source.

    layers: those layers. The first object is behind the others.
    ahead: the number of frames from that frame to the source's last one.
    """

    layers: Layers
    ahead: int

    @classmethod
    def of(cls, frames: NDArray[np.uint8]) -> "MovedLayers | None":
        """Returns the layers, or None if those of no earlier frame explain how the source goes on from it.

        frames: the source's frames [T, H, W, 3], the nearest one first.
        """
        if frames.shape[1] > SMALL[1] or frames.shape[2] > SMALL[0]:
            small = cls.of(shrunk(frames, *SMALL))
            return cls._at(frames, small.ahead) if small else None
        tried = (cls._at(frames, ahead) for ahead in AHEAD)
        return next((moved for moved in tried if moved is not None), None)

    @classmethod
    def _at(cls, frames: NDArray[np.uint8], ahead: int) -> "MovedLayers | None":
        """Returns the layers of the frame that is `ahead` frames before the last one, if they explain what follows."""
        layers = separated(Film.of(frames[ahead:]))
        if layers is None or not layers.are_sure:
            return None
        turned = replace(layers, alphas=layers.alphas[::-1], steps=layers.steps[::-1])
        left = {each.left(frames): each for each in (cls(layers, ahead), cls(turned, ahead))}
        return left[min(left)] if min(left) < MOST_LEFT else None

    def left(self, frames: NDArray[np.uint8]) -> float:
        """Returns how much of the source's motion since the earlier frame the layers do not explain, as a share of the
        squared change: 0 for nothing, 1 for all."""
        start, shares = as_picture(frames[self.ahead]), []
        for number in (0, self.ahead // 2):
            shown = as_picture(frames[number])
            error = np.square(np.clip(self.drawn(-number), 0, 1) - shown).mean()
            shares.append(float(error / max(np.square(start - shown).mean(), 1e-9)))
        return max(shares)

    def drawn(self, steps: float) -> Pictures:
        """Returns a frame [H, W, 3] in 0..1 that is `steps` frames after the nearest one."""
        return self.layers.drawn(self.ahead + steps)
