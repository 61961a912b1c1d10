"""Continues a drawing whose layers explain its motion only in part: objects keep their shape and slow down to a stop.

Carried like footage, the straight lines of a drawing would bend, which is seen at once.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from longtake.carried.layers import Layers
from longtake.carried.optical_flow import Pictures

SLOWING = 12
"""The number of new frames after which the objects have 1/e of their speed."""


@dataclass(frozen=True)
class SlowingLayers:
    """Layers whose motion is not sure."""

    layers: Layers

    def carried(self, new_frames: Pictures, distances: Sequence[int]) -> Pictures:
        """Returns frames [t, H, W, 3] in 0..1 in place of the model's new frames.

        new_frames: the model's frames, which are not used.
        distances: for each frame, the number of new frames between the source and this frame: 0 for the frame next to
            the source.
        """
        steps = [SLOWING * (1 - math.exp(-(distance + 1) / SLOWING)) for distance in distances]
        return np.clip([self.layers.drawn(step) for step in steps], 0, 1)
