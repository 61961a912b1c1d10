"""Where a sampler's noise comes from: a seed, or tensors given by name."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Noise = Callable[[str, tuple[int, ...]], Tensor]
"""Asked by name and shape, in the order of use: `init`, `item.00` .., `step.000` .. (see `denoise`)."""


def seeded(seed: int, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Noise:
    """Standard normal noise drawn on `device` from a generator of its own: same seed, same calls, same bits."""
    generator = torch.Generator(device).manual_seed(seed)
    return lambda name, shape: torch.randn(shape, generator=generator, device=device, dtype=dtype)


def given(tensors: Mapping[str, Tensor], prefix: str = "") -> Noise:
    """Noise looked up as `prefix + name`; ValueError where its shape is not the one that is needed."""

    def look_up(name: str, shape: tuple[int, ...]) -> Tensor:
        noise = tensors[prefix + name]
        if tuple(noise.shape) != shape:
            raise ValueError(f"noise {prefix + name} has shape {tuple(noise.shape)}; it must be {shape}")
        return noise

    return look_up
