"""Frequencies in LTX-2's embeddings of times and positions. They need float64, which Apple's GPUs do not have.

For such a device the frequencies are computed on the CPU.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

WITHOUT_FLOAT64 = {"mps"}
"""The types of devices that have no float64: Apple's GPUs."""


def sinusoids(times: Tensor, channels: int) -> Tensor:
    """Returns the sinusoidal embeddings of times, [k, channels] in float32: first the cosines, then the sines.

    times: the times [k]. The result is on the same device.
    channels: the number of cosines and sines together.

    The frequencies fall from 1 to about 1/10000.
    """
    angles = times[:, None] * _frequencies(channels // 2, times.device)
    return torch.cat([angles.cos(), angles.sin()], 1)


@cache
def _frequencies(count: int, device: torch.device) -> Tensor:
    """Returns the frequencies of `sinusoids`, [count] in float32 on the device.

    Each step needs them several times. A copy to a GPU would make the host wait for the step's work.
    """
    # Tensors that were made in inference mode could not be used outside it.
    with torch.inference_mode(False):
        exponents = -math.log(10_000) * torch.arange(count, dtype=torch.float32) / count
        # `exp` in float64 on the CPU, rounded to float32, gives the same frequencies on every processor; `exp` in
        # float32 does not. A time can be 1000, so a small error in a frequency changes the model's output by 1e-5.
        return exponents.double().exp().float().to(device)


def keep_float64_on_host(part: nn.Module) -> None:
    """Makes the rotary layers of a part of LTX-2 compute on the CPU if the model's device has no float64.

    The result is then moved to that device. Nothing changes for a device with float64.

    part: diffusers' transformer, or its connectors (the layers between the text encoder and the transformer). Their
        rotary layers compute in float64.
    """
    for layer in part.modules():
        if hasattr(layer, "double_precision"):
            layer.forward = _forward_on_host(layer.forward)


def _forward_on_host(forward: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
    def run(*args: Any, device: str | torch.device | None = None) -> tuple[Tensor, Tensor]:
        target = torch.device(args[0].device if device is None else device)
        if target.type not in WITHOUT_FLOAT64:
            return forward(*args, device=target)
        on_host = (value.cpu() if isinstance(value, Tensor) else value for value in args)
        cosines, sines = forward(*on_host, device="cpu")
        return cosines.to(target), sines.to(target)

    return run
