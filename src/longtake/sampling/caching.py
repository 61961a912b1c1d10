"""Step caching (acceleration): steps that extrapolate earlier predictions instead of evaluating the model."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from torch import Tensor

from longtake.sampling.levels import Acceleration, evaluates_model

StreamT = TypeVar("StreamT", bound=str)
"""The name of a modality."""

Predict = Callable[[Mapping[StreamT, Tensor], int, float], Mapping[StreamT, Tensor]]
"""The clean prediction of each modality, from its tokens, the step's number and its noise level."""


def along(known: Sequence[tuple[float, Tensor]], level: float) -> Tensor:
    """The value at a noise level on the line through the last two known ones. Source: the idea of TaylorSeer (Liu et
    al. 2025), for what the model says in place of its features."""
    (before, first), (last, second) = known[-2:]
    return second + (level - last) / (last - before) * (second - first)


def cached(predict: Predict[StreamT], sigmas: Tensor, acceleration: Acceleration) -> Predict[StreamT]:
    """`predict` for one pass down `sigmas`, which evaluates the model at the steps of the acceleration level alone; at
    the others each modality's clean prediction is extrapolated from its last two."""
    known: dict[StreamT, list[tuple[float, Tensor]]] = {}
    steps = len(sigmas) - 1

    def at(tokens: Mapping[StreamT, Tensor], step: int, sigma: float) -> Mapping[StreamT, Tensor]:
        if not evaluates_model(step, steps, acceleration):
            return {stream: along(known[stream], sigma) for stream in tokens}
        clean = predict(tokens, step, sigma)
        for stream, prediction in clean.items():
            known[stream] = [*known.get(stream, [])[-1:], (sigma, prediction)]
        return clean

    return at
