"""The step cache, which accelerates sampling: some steps skip the model and extrapolate its earlier predictions."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from torch import Tensor

from longtake.sampling.levels import Acceleration, evaluates_model

StreamT = TypeVar("StreamT", bound=str)
"""The name of a modality, such as "video"."""

Predict = Callable[[Mapping[StreamT, Tensor], int, float], Mapping[StreamT, Tensor]]
"""A function that returns the prediction of the clean tokens, [1, n, C] for each modality (such as video).

Its arguments are the noisy tokens [1, n, C] of each modality, the step's number (from 0) and the step's noise level.
"""


def extrapolated(known: Sequence[tuple[float, Tensor]], level: float) -> Tensor:
    """Returns the value at noise level `level`, extrapolated linearly from the last two known values.

    known: pairs (noise level, value), at least two, with different levels.
    Source: the idea of TaylorSeer (Liu et al. 2025), applied to the model's predictions instead of its features.
    """
    (before, first), (last, second) = known[-2:]
    return second + (level - last) / (last - before) * (second - first)


def with_step_cache(predict: Predict[StreamT], sigmas: Tensor, acceleration: Acceleration) -> Predict[StreamT]:
    """Returns a function with the arguments and results of `predict` that skips the model at some steps of one pass
    (run through the sampling steps).

    At the steps at which `levels.evaluates_model` is True, the function calls `predict`. At the other steps it
    extrapolates each modality's clean prediction from the results of the last two calls. Each pass needs a new
    function.

    predict: a function that evaluates the model: it predicts the clean tokens of each modality (see `Predict`).
    sigmas: the noise levels of the pass, [steps + 1].
    acceleration: how many steps skip the model; "none" skips no step.
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
