"""The noise of samplers. Each draw of noise has a name.

The values of a draw depend only on the seed, the draw's name, the pass and the window. The order of the draws does not
matter.
"""

import hashlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Noise = Callable[[str, tuple[int, ...]], Tensor]
"""A function of (name, shape) that returns noise. The name says what the noise is for, such as `init` or `step.000`.
Equal names give equal noise."""


def noise_key(seed: int, name: str, pass_number: int, window: int) -> int:
    """Returns the 64-bit key with which a random generator makes the noise of one draw.

    A draw is one tensor of noise. `name` says what the noise is for, such as `init`. `pass_number` and `window` are the
    numbers, from 0, of the pass and of the window. Draws that differ in any argument have different keys, except with a
    chance of 1 in 2**64.
    """
    text = f"{seed} {name} {pass_number} {window}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def seeded(seed: int, pass_number: int = 0, window: int = 0, device: torch.device | str = "cpu") -> Noise:
    """Returns a function that draws the noise of one pass over one window: standard normal, float32, on `device`.

    The function's arguments are a draw's name and shape. Each draw has its own key (see `noise_key`), so its values
    depend neither on earlier draws nor on the device. NumPy draws the values on the CPU, because torch's CPU generator
    uses only 32 bits of a seed.

    seed: the seed of the plan.
    pass_number: the number of the pass, from 0.
    window: the number of the window, from 0.
    """

    is_gpu = torch.device(device).type == "cuda"

    def draw(name: str, shape: tuple[int, ...]) -> Tensor:
        generator = np.random.Generator(np.random.Philox(key=noise_key(seed, name, pass_number, window)))
        values = torch.from_numpy(generator.standard_normal(shape, np.float32))
        # The host need not wait for a copy from pinned memory, so it can start more work meanwhile.
        return (values.pin_memory() if is_gpu else values).to(device, non_blocking=is_gpu)

    return draw
