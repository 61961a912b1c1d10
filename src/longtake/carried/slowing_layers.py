"""Continues a drawing whose layers explain its motion only in part: objects keep their shape and slow down to a stop.

Carried like footage, the straight lines of a drawing would bend, which is seen at once.
"""

import math
from dataclasses import dataclass

from longtake.carried.layers import Layers
from longtake.carried.optical_flow import Pictures

SLOWING = 12
"""The number of new frames after which the objects have 1/e of their speed."""


@dataclass(frozen=True)
class SlowingLayers:
    """Layers whose motion is not sure."""

    layers: Layers

    def drawn(self, steps: float) -> Pictures:
        """Returns a frame [H, W, 3] in 0..1 that is `steps` frames after the nearest one."""
        return self.layers.drawn(SLOWING * (1 - math.exp(-steps / SLOWING)))
