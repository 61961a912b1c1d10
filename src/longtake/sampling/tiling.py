"""Chooses the spatial tiles in which a VAE encodes and decodes, from sizes and the device's total memory.

How much memory is free does not matter, so that a request always gives the same bits.
"""

from dataclasses import dataclass
from math import ceil, prod
from typing import Any

import torch

from longtake.models import memory
from longtake.plans import Size

WIDEST_UNTILED = 1024
"""The longest side in pixels of frames that are encoded and decoded as a whole on a device that shares the host's
memory. Larger frames are split into tiles."""

LARGEST_SHARE = 6
"""The activations of a VAE may take a GPU's total memory divided by this number. Of 48 GB that is 8 GB. Weights are
placed so that at least 8 GB stay free (`memory.RESERVE_BYTES`)."""

WIDEST_TENSORS = 8
"""An estimate of how many of its widest tensors a VAE has in memory at once.

Counted layer by layer for the published models: 7.4 for encoding and 6.3 for decoding with LTX-Video, 5.5 and 4.6 with
LTX-2.
"""


@dataclass(frozen=True)
class Tiles:
    """How frames are split into tiles.

    side: the width and height of a tile in pixels.
    step: the distance in pixels from one tile's start to the next one's.
    """

    side: int
    step: int

    def count(self, canvas: Size) -> int:
        """Returns the number of tiles of a frame; `canvas` is its (width, height) in pixels."""
        return prod(ceil(side / self.step) for side in canvas)


LARGE, SMALL = Tiles(768, 640), Tiles(512, 384)


def choose(vae: Any, canvas: Size, num_frames: int, device: torch.device) -> Tiles | None:
    """Returns the tiles for frames that are encoded or decoded together; None for whole frames.

    - A request whose earlier attempt ran out of memory has small tiles.
    - On a CUDA GPU, the first of these whose activations fit is used: whole frames, large tiles, small tiles.
    - On any other device, frames with a side of more than 1024 pixels (WIDEST_UNTILED) have large tiles.

    vae: diffusers' video autoencoder of LTX-Video or LTX-2.
    canvas: the (width, height) of the frames in pixels.
    num_frames: the number of frames that are encoded or decoded together.
    device: the device on which the VAE runs. Its weights may be elsewhere now.
    """
    if memory.low_memory.get():
        return SMALL
    total = memory.device_bytes(device)
    if total is None:
        return LARGE if max(canvas) > WIDEST_UNTILED else None
    room = total // LARGEST_SHARE
    if activation_bytes(vae, canvas, num_frames) <= room:
        return None
    return LARGE if activation_bytes(vae, (LARGE.side, LARGE.side), num_frames) <= room else SMALL


def activation_bytes(vae: Any, size: Size, num_frames: int) -> int:
    """Returns an estimate of the memory that a VAE needs besides its weights to encode or decode some frames.

    The widest tensors are those at the highest resolution, where a position covers `patch_size` x `patch_size` pixels.

    size: the (width, height) of the frames, or of their tiles, in pixels.
    num_frames: the number of frames that are encoded or decoded together.
    """
    config = vae.config
    values = prod(size) * num_frames * config.block_out_channels[0] / config.patch_size**2
    return int(values * WIDEST_TENSORS * vae.dtype.itemsize)
