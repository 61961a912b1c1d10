"""Noise that is looked up instead of drawn."""

from collections.abc import Mapping

from torch import Tensor

from longtake.sampling.noise import Noise


def recorded_noise(tensors: Mapping[str, Tensor], prefix: str = "") -> Noise:
    """Returns noise that looks each draw up as `prefix + name`; a draw of another shape raises AssertionError."""

    def look_up(name: str, shape: tuple[int, ...]) -> Tensor:
        noise = tensors[prefix + name]
        assert tuple(noise.shape) == shape, prefix + name
        return noise

    return look_up
