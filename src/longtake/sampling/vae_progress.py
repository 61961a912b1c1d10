"""Reports how much of a decoding a VAE has done, because one decoding can take minutes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

from torch import nn

OnShare = Callable[[float], None]
"""A callback with the share of the work that is done, 0..1. It can stop the work by raising an exception."""


def ignore_share(share: float) -> None:
    """Does nothing; the default callback for the share of the work that is done."""


@contextmanager
def reporting_share(decoder: nn.Module, num_calls: int, on_share: OnShare) -> Iterator[None]:
    """Context manager. Within it, `on_share` is called after each residual block of a VAE's decoder.

    decoder: the decoder. The code in the `with` statement must call it `num_calls` times.
    on_share: a callback that gets the share of the work of all these calls that is done, 0..1.
    """
    costs = block_costs(decoder)
    total, done = num_calls * sum(costs.values()), 0.0

    def report(block: nn.Module, arguments: Any, output: Any) -> None:
        nonlocal done
        done += costs[block]
        on_share(done / total)

    hooks = [block.register_forward_hook(report) for block in costs]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def block_costs(decoder: Any) -> dict[nn.Module, float]:
    """Returns the cost of each residual block of a VAE's decoder, in multiplications for each latent position.

    A block is made of convolutions, which use each of their weights once at every position. An upsampler before the
    block multiplies the number of positions.
    """
    costs: dict[nn.Module, float] = {}
    positions = 1
    for part in (decoder.mid_block, *decoder.up_blocks):
        for upsampler in getattr(part, "upsamplers", None) or ():
            positions *= prod(upsampler.stride)
        for block in part.resnets:
            costs[block] = positions * sum(weights.numel() for weights in block.parameters())
    return costs
