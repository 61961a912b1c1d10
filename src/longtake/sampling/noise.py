"""Noise for samplers, from a seed or from tensors given by name."""

import hashlib
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

Noise = Callable[[str, tuple[int, ...]], Tensor]
"""Asked by name and shape: `init`, `item.00` .., `step.000` .. (see `denoise`)."""


def noise_key(seed: int, name: str, pass_number: int, window: int) -> int:
    """The 64-bit key of one draw: no two draws of all seeds share one, but for a chance of 1 in 2**64."""
    text = f"{seed} {name} {pass_number} {window}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def seeded(seed: int, pass_number: int = 0, window: int = 0, device: torch.device | str = "cpu") -> Noise:
    """Standard normal noise, float32 on `device`, for one pass over one window.

    Each draw has a key of its own, so that it depends neither on the draws before it nor on the device. It is drawn by
    NumPy on the CPU: torch's generator there uses only 32 bits of a seed.
    """

    def draw(name: str, shape: tuple[int, ...]) -> Tensor:
        generator = np.random.Generator(np.random.Philox(key=noise_key(seed, name, pass_number, window)))
        return torch.from_numpy(generator.standard_normal(shape, np.float32)).to(device)

    return draw


def given(tensors: Mapping[str, Tensor], prefix: str = "") -> Noise:
    """Noise looked up as `prefix + name`; ValueError where its shape is not the one that is needed."""

    def look_up(name: str, shape: tuple[int, ...]) -> Tensor:
        noise = tensors[prefix + name]
        if tuple(noise.shape) != shape:
            raise ValueError(f"noise {prefix + name} has shape {tuple(noise.shape)}; it must be {shape}")
        return noise

    return look_up
