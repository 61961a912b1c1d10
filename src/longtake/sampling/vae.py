"""Between frames and latents: encodes a context, and decodes latents as they arrive, in overlapping tiles of time."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from longtake.plans import Size
from longtake.sampling.noise import Noise
from longtake.video import OnProgress, Progress, ignore_progress

TILE_FRAMES = 80
"""Frames of a tile of time, which are decoded together; this bounds the decoder's memory."""

BLEND_FRAMES = 24
"""Frames that neighbouring tiles of time share; one tile fades into the other over them."""

WIDEST_UNTILED = 1024
"""The longest side in pixels that is encoded and decoded whole; larger canvases are split into spatial tiles."""

TILE_SIDE, TILE_STEP = 768, 640
"""The side of a spatial tile and the distance from one tile to the next, in pixels."""


@dataclass(frozen=True)
class Statistics:
    """The mean and standard deviation of a VAE's latents per channel, each [1, C, 1, 1, 1] float32."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, vae: Any, device: torch.device | str = "cpu") -> "Statistics":
        """Returns the statistics that a VAE was trained with, on `device`."""
        return cls(*(values.to(device).float().view(1, -1, 1, 1, 1) for values in (vae.latents_mean, vae.latents_std)))

    @property
    def channels(self) -> int:
        """The number of latent channels."""
        return self.mean.shape[1]

    def normalise(self, latent: Tensor) -> Tensor:
        """Returns the VAE's latents [B, C, F, H, W] with mean 0 and standard deviation 1."""
        return (latent - self.mean) / self.std

    def unnormalise(self, latent: Tensor) -> Tensor:
        """Returns normalised latents [B, C, F, H, W] as the VAE's own."""
        return latent * self.std + self.mean


def encode_clip(vae: Any, frames: NDArray[np.uint8], canvas: Size, device: torch.device | str = "cpu") -> Tensor:
    """Returns a clip of 8k+1 frames [T, H, W, 3] as normalised latents [1, C, f, h, w] float32 on `device`.

    The frames are resized to `canvas` (width, height). The posterior's mode is used, so that the same frames always
    give the same latents.
    """
    pixels = torch.from_numpy(frames).to(device).permute(0, 3, 1, 2)
    pixels = resize(pixels.float() / 127.5 - 1, canvas)
    _set_tiling(vae, canvas)
    latent = vae.encode(pixels.transpose(0, 1)[None].to(vae.dtype)).latent_dist.mode()
    return Statistics.of(vae, device).normalise(latent.float())


def noised_for_decoder(latent: Tensor, noise: Tensor, scale: float) -> Tensor:
    """Returns z (1 - scale) + noise scale: a decoder that takes a timestep was trained on such latents."""
    return latent * (1 - scale) + noise * scale


def decoder_noise(noise: Noise, first: int, latent: Tensor) -> Tensor:
    """Returns noise in the shape of `latent` [1, C, f, h, w], whose first latent frame is number `first` of the video.

    Each latent frame has its own draw, so the noise does not depend on how the video is cut.
    """
    shape = (1, latent.shape[1], 1, *latent.shape[3:])
    return torch.cat([noise(f"decode.{first + i:04d}", shape) for i in range(latent.shape[2])], 2)


@dataclass(frozen=True)
class Latents:
    """The next final latents of a video [1, C, f, h, w], un-normalised, and whether they are its last."""

    latent: Tensor
    last: bool


def decode(vae: Any, latent: Tensor, timestep: float) -> Tensor:
    """Returns un-normalised latents [1, C, f, h, w] as frames [t, 3, H, W] float32 in about -1..1.

    The first latent is one frame. A VAE without timestep conditioning ignores `timestep`.
    """
    ratio = vae.spatial_compression_ratio
    _set_tiling(vae, (latent.shape[4] * ratio, latent.shape[3] * ratio))
    time = None
    if vae.config.timestep_conditioning:
        time = torch.full((1,), timestep, device=latent.device, dtype=vae.dtype)
    frames: Tensor = vae.decode(latent.to(vae.dtype), time, return_dict=False)[0][0].transpose(0, 1).float()
    return frames


def decode_frames(
    vae: Any,
    latents: Iterator[Latents],
    first_frame: int,
    last_frame: int,
    *,
    timestep: float,
    on_progress: OnProgress = ignore_progress,
) -> Iterator[Tensor]:
    """Yields frames [first_frame, last_frame) in chunks [t, 3, H, W] in about -1..1, as soon as their latents arrive.

    A long video is decoded in tiles of TILE_FRAMES that share BLEND_FRAMES with the next and fade into it linearly. At
    most BLEND_FRAMES before `first_frame` are decoded.
    """
    temporal = vae.temporal_compression_ratio
    tile, shared = TILE_FRAMES // temporal, BLEND_FRAMES // temporal
    position = max(0, first_frame // temporal - shared)
    unwanted = position
    waiting: Tensor | None = None
    fading: Tensor | None = None
    for arrived in latents:
        wanted = arrived.latent[:, :, unwanted:]
        unwanted = max(0, unwanted - arrived.latent.shape[2])
        waiting = wanted if waiting is None else torch.cat([waiting, wanted], 2)
        while waiting.shape[2] > (0 if arrived.last else tile):
            ends = arrived.last and waiting.shape[2] <= tile + shared
            # A tile's first latent decodes to one frame, the frame that starts its latent in the video.
            start = position * temporal
            on_progress(Progress("frames", min(start, last_frame), last_frame))
            frames = decode(vae, waiting if ends else waiting[:, :, :tile], timestep)
            if fading is not None:
                share = torch.linspace(0, 1, len(fading) + 2, device=frames.device)[1:-1, None, None, None]
                frames = torch.cat([torch.lerp(fading, frames[: len(fading)], share), frames[len(fading) :]])
            final = frames if ends else frames[: (tile - shared) * temporal]
            fading = frames[len(final) :]
            chunk = final[max(first_frame - start, 0) : max(last_frame - start, 0)]
            if len(chunk):
                yield chunk
            if ends:
                return
            waiting, position = waiting[:, :, tile - shared :], position + tile - shared


def upsample(upsampler: Any, latent: Tensor, statistics: Statistics) -> Tensor:
    """Returns normalised latents [1, C, F, H, W] as [1, C, F, 2H, 2W]; the upsampler itself works on un-normalised
    ones."""
    dtype = next(upsampler.parameters()).dtype
    larger: Tensor = upsampler(statistics.unnormalise(latent).to(dtype))
    return statistics.normalise(larger.to(latent.dtype))


LARGEST_PADDING = 64
"""A canvas larger than the frames by less than this many pixels on both axes is padded instead of resized."""


def _margins(canvas: Size, size: Size) -> tuple[int, int] | None:
    """The left and top margin of frames of `size` on the canvas; None if they are resized to it instead."""
    over = canvas[0] - size[0], canvas[1] - size[1]
    return (over[0] // 2, over[1] // 2) if all(0 <= side < LARGEST_PADDING for side in over) else None


def padded_to_canvas(frames: NDArray[np.uint8], canvas: Size) -> NDArray[np.uint8]:
    """Returns frames [T, H, W, 3] padded to the canvas (width, height) with their mirrored edges.

    If the canvas is smaller, or larger by LARGEST_PADDING or more, the frames are returned unchanged, for `encode_clip`
    to resize.
    """
    size = frames.shape[2], frames.shape[1]
    margins = _margins(canvas, size)
    if margins is None or canvas == size:
        return frames
    (left, top), (width, height) = margins, canvas
    around = ((0, 0), (top, height - size[1] - top), (left, width - size[0] - left), (0, 0))
    return np.pad(frames, around, mode="symmetric")


def cropped_from_canvas(frames: Tensor, canvas: Size, size: Size) -> Tensor:
    """Returns decoded frames [t, 3, h, w] in about -1..1 as [t, 3, H, W] in 0..1 at `size` (width, height), without the
    margins that `padded_to_canvas` added."""
    margins = _margins(canvas, size)
    if margins is not None:
        (left, top), (width, height) = margins, size
        frames = frames[:, :, top : top + height, left : left + width]
    return to_pixels(frames, size)


def to_pixels(frames: Tensor, size: Size) -> Tensor:
    """Returns decoded frames [t, 3, h, w] in about -1..1 as [t, 3, H, W] in 0..1 at `size` (width, height)."""
    return (resize(frames, size) / 2 + 0.5).clamp(0, 1)


def resize(frames: Tensor, size: Size) -> Tensor:
    """Returns frames [t, 3, h, w] resized to `size` (width, height): bilinear, antialiased when shrinking."""
    if (frames.shape[3], frames.shape[2]) == size:
        return frames
    return functional.interpolate(frames, size=(size[1], size[0]), mode="bilinear", align_corners=False, antialias=True)


def _set_tiling(vae: Any, canvas: Size) -> None:
    if max(canvas) > WIDEST_UNTILED:
        vae.enable_tiling(
            tile_sample_min_height=TILE_SIDE,
            tile_sample_min_width=TILE_SIDE,
            tile_sample_stride_height=TILE_STEP,
            tile_sample_stride_width=TILE_STEP,
        )
    else:
        vae.disable_tiling()
    vae.use_framewise_encoding = vae.use_framewise_decoding = False
