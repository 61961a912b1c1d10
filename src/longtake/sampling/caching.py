"""Steps without the model: predictions carried on from those of earlier steps (acceleration)."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from longtake.models.audiovisual import Stream, Tokens
from longtake.plan import Acceleration, asks_model

Predict = Callable[[Tokens, int, float], Mapping[Stream, Tensor]]
"""The clean prediction of each modality, from its tokens, the step's number and its noise level."""


def along(known: Sequence[tuple[float, Tensor]], level: float) -> Tensor:
    """The value at a noise level on the line through the last two known ones. Source: the idea of TaylorSeer (Liu et
    al. 2025), for what the model says in place of its features."""
    (before, first), (last, second) = known[-2:]
    return second + (level - last) / (last - before) * (second - first)


def cached(predict: Predict, sigmas: Tensor, acceleration: Acceleration) -> Predict:
    """`predict` for one pass down `sigmas`, which asks the model at the steps of the acceleration level alone; at the
    others each modality's clean prediction is carried on."""
    known: dict[Stream, list[tuple[float, Tensor]]] = {"video": [], "audio": []}
    steps = len(sigmas) - 1

    def at(tokens: Tokens, step: int, sigma: float) -> Mapping[Stream, Tensor]:
        if not asks_model(step, steps, acceleration):
            return {stream: along(known[stream], sigma) for stream in tokens}
        clean = predict(tokens, step, sigma)
        for stream, prediction in clean.items():
            known[stream] = [*known[stream][-1:], (sigma, prediction)]
        return clean

    return at
