"""The step cache (acceleration): some steps extrapolate earlier predictions instead of evaluating the model."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from torch import Tensor

from longtake.sampling.levels import Acceleration, evaluates_model

StreamT = TypeVar("StreamT", bound=str)
"""The name of a modality."""

Predict = Callable[[Mapping[StreamT, Tensor], int, float], Mapping[StreamT, Tensor]]
"""Returns the clean prediction of each modality from its tokens [1, n, C], the step's number and its noise level."""


def extrapolated(known: Sequence[tuple[float, Tensor]], level: float) -> Tensor:
    """Returns the value at noise `level` on the line through the last two of the `known` (level, value) pairs.

    Source: the idea of TaylorSeer (Liu et al. 2025), applied to the model's predictions instead of its features.
    """
    (before, first), (last, second) = known[-2:]
    return second + (level - last) / (last - before) * (second - first)


def with_step_cache(predict: Predict[StreamT], sigmas: Tensor, acceleration: Acceleration) -> Predict[StreamT]:
    """Returns `predict` with a cache for one pass down the noise levels `sigmas` [steps + 1].

    It evaluates the model at the steps that the acceleration level names. At the other steps it extrapolates each
    modality's clean prediction from the last two that were evaluated.
    """
    known: dict[StreamT, list[tuple[float, Tensor]]] = {}
    steps = len(sigmas) - 1

    def cached(tokens: Mapping[StreamT, Tensor], step: int, sigma: float) -> Mapping[StreamT, Tensor]:
        if not evaluates_model(step, steps, acceleration):
            return {stream: extrapolated(known[stream], sigma) for stream in tokens}
        clean = predict(tokens, step, sigma)
        for stream, prediction in clean.items():
            known[stream] = [*known.get(stream, [])[-1:], (sigma, prediction)]
        return clean

    return cached
