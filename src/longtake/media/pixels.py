"""Turns pictures that a model has made, tensors with values in 0..1, into arrays of integers in host memory."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from longtake.media.formats import PixelFormat
from longtake.media.planes import RGBFrames, RGBPicture, frame_type


def as_integers(frames: Tensor, frame_format: PixelFormat) -> RGBPicture:
    """Returns RGB frames [t, 3, H, W] in 0..1 as integers [t, H, W, 3] in host memory, rounded to the nearest.

    They are uint16 in 0..65535 for a `frame_format` of more than 8 bits per channel, otherwise uint8 in 0..255. They
    are computed on the frames' device, because integers are copied to the host faster than floats.
    """
    dtype = frame_type(frame_format)
    largest = int(np.iinfo(dtype).max)
    # Few devices have operations for uint16, so such codes leave the device as int32.
    codes = (frames * largest).round_().to(torch.uint8 if largest == 255 else torch.int32)
    return _in_host_memory(codes.permute(0, 2, 3, 1)).astype(dtype, copy=False)


def as_rgb(frames: Tensor) -> RGBFrames:
    """Returns RGB frames [t, 3, H, W] in 0..1 as uint8 [t, H, W, 3] in 0..255 in host memory, rounded."""
    return as_integers(frames, "rgb24").astype(np.uint8, copy=False)


def _in_host_memory(values: Tensor) -> NDArray[Any]:
    """Returns the values of a tensor on any device as a contiguous array."""
    # A GPU writes to page-locked memory about three times as fast as to other memory.
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=values.is_cuda)
    host.copy_(values)
    array: NDArray[Any] = host.numpy()
    return array
