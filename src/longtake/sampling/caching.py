"""The step cache, which accelerates sampling: some steps skip the model and extrapolate its earlier predictions.

`levels.evaluates_model` says which steps these are.
"""

from collections.abc import Sequence

from torch import Tensor


def extrapolated(known: Sequence[tuple[float, Tensor]], level: float) -> Tensor:
    """Returns the value at noise level `level`, extrapolated linearly from the last two known values.

    known: pairs (noise level, value), at least two, with different levels.
    Source: the idea of TaylorSeer (Liu et al. 2025), applied to the model's predictions instead of its features.
    """
    (before, first), (last, second) = known[-2:]
    return second + (level - last) / (last - before) * (second - first)
