"""The noise of samplers, drawn by name from a seed."""

import hashlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Noise = Callable[[str, tuple[int, ...]], Tensor]
"""Returns the noise of a draw, given the draw's name (`init`, `step.000` ...) and the tensor's shape."""


def noise_key(seed: int, name: str, pass_number: int, window: int) -> int:
    """Returns the 64-bit key of one draw. The chance that two draws, of any seeds, share a key is 1 in 2**64."""
    text = f"{seed} {name} {pass_number} {window}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def seeded(seed: int, pass_number: int = 0, window: int = 0, device: torch.device | str = "cpu") -> Noise:
    """Returns the standard normal noise, float32 on `device`, of one pass over one window (both from 0).

    Each draw has its own key, so it depends neither on earlier draws nor on the device. NumPy draws it on the CPU,
    because torch's generator there uses only 32 bits of a seed.
    """

    def draw(name: str, shape: tuple[int, ...]) -> Tensor:
        generator = np.random.Generator(np.random.Philox(key=noise_key(seed, name, pass_number, window)))
        return torch.from_numpy(generator.standard_normal(shape, np.float32)).to(device)

    return draw
