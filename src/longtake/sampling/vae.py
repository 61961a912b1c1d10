"""Between frames and latents: encoding a context, and decoding latents as they come, in overlapping pieces."""

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
"""Frames decoded at once."""

BLEND_FRAMES = 24
"""Frames that neighbouring pieces share and fade over."""

WIDEST_UNTILED = 1024
"""A longer side than this is encoded and decoded in spatial tiles of TILE_SIDE, TILE_STEP apart."""
TILE_SIDE, TILE_STEP = 768, 640


@dataclass(frozen=True)
class Statistics:
    """A VAE's latents per channel: mean and std, [1, C, 1, 1, 1] each."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, vae: Any, device: torch.device | str = "cpu") -> "Statistics":
        """The statistics that a VAE was trained with, on `device`."""
        return cls(*(values.to(device).float().view(1, -1, 1, 1, 1) for values in (vae.latents_mean, vae.latents_std)))

    @property
    def channels(self) -> int:
        return self.mean.shape[1]

    def normalise(self, latent: Tensor) -> Tensor:
        return (latent - self.mean) / self.std

    def unnormalise(self, latent: Tensor) -> Tensor:
        return latent * self.std + self.mean


def encode_clip(vae: Any, frames: NDArray[np.uint8], canvas: Size, device: torch.device | str = "cpu") -> Tensor:
    """A clip [T, H, W, 3] uint8 of 8k+1 frames as normalised latents [1, C, f, h, w] on `device`, resized to `canvas`.

    The posterior's mode is used, so that the same frames always give the same latents.
    """
    pixels = torch.from_numpy(frames).to(device).permute(0, 3, 1, 2)
    pixels = resize(pixels.float() / 127.5 - 1, canvas)
    _tile(vae, canvas)
    latent = vae.encode(pixels.transpose(0, 1)[None].to(vae.dtype)).latent_dist.mode()
    return Statistics.of(vae, device).normalise(latent.float())


def roughen(latent: Tensor, noise: Tensor, scale: float) -> Tensor:
    """z (1 - scale) + noise scale: a decoder that takes a timestep was trained on such latents."""
    return latent * (1 - scale) + noise * scale


def decoder_noise(noise: Noise, first: int, latent: Tensor) -> Tensor:
    """Noise for latent frames from `first` on, drawn frame by frame: the same however a video comes in pieces."""
    shape = (1, latent.shape[1], 1, *latent.shape[3:])
    return torch.cat([noise(f"decode.{first + i:04d}", shape) for i in range(latent.shape[2])], 2)


@dataclass(frozen=True)
class Latents:
    """The next final latents of a video [1, C, f, h, w], ready for the decoder, and whether they are its last."""

    latent: Tensor
    last: bool


def decode(vae: Any, latent: Tensor, timestep: float) -> Tensor:
    """Frames [t, 3, H, W] float32 about [-1, 1] of ready latents; the first latent is one frame."""
    _tile(vae, (latent.shape[4] * vae.spatial_compression_ratio, latent.shape[3] * vae.spatial_compression_ratio))
    time = (
        torch.full((1,), timestep, device=latent.device, dtype=vae.dtype) if vae.config.timestep_conditioning else None
    )
    return vae.decode(latent.to(vae.dtype), time, return_dict=False)[0][0].transpose(0, 1).float()  # type: ignore[no-any-return]


def decode_frames(
    vae: Any,
    latents: Iterator[Latents],
    first_frame: int,
    last_frame: int,
    *,
    timestep: float,
    on_progress: OnProgress = ignore_progress,
) -> Iterator[Tensor]:
    """Frames [first_frame, last_frame) in chunks [t, 3, H, W] as soon as their latents have come.

    A long video is decoded in pieces of TILE_FRAMES that share BLEND_FRAMES, faded linearly; of the latents before
    `first_frame` only as many are decoded as a piece shares. A piece that starts at latent a > 0 begins with the one
    frame a * temporal.
    """
    temporal = vae.temporal_compression_ratio
    tile, shared = TILE_FRAMES // temporal, BLEND_FRAMES // temporal
    at = max(0, first_frame // temporal - shared)
    unwanted = at
    waiting: Tensor | None = None
    fading: Tensor | None = None
    for arrived in latents:
        wanted = arrived.latent[:, :, unwanted:]
        unwanted = max(0, unwanted - arrived.latent.shape[2])
        waiting = wanted if waiting is None else torch.cat([waiting, wanted], 2)
        while waiting.shape[2] > (0 if arrived.last else tile):
            ends = arrived.last and waiting.shape[2] <= tile + shared
            start = at * temporal
            on_progress(Progress("frames", min(start, last_frame), last_frame))
            frames = decode(vae, waiting if ends else waiting[:, :, :tile], timestep)
            if fading is not None:
                share = torch.linspace(0, 1, len(fading) + 2, device=frames.device)[1:-1, None, None, None]
                frames = torch.cat([torch.lerp(fading, frames[: len(fading)], share), frames[len(fading) :]])
            kept = frames if ends else frames[: (tile - shared) * temporal]
            fading = frames[len(kept) :]
            chunk = kept[max(first_frame - start, 0) : max(last_frame - start, 0)]
            if len(chunk):
                yield chunk
            if ends:
                return
            waiting, at = waiting[:, :, tile - shared :], at + tile - shared


def upsample(upsampler: Any, latent: Tensor, statistics: Statistics) -> Tensor:
    """Normalised latents at twice the height and width; the upsampler works on un-normalised ones."""
    dtype = next(upsampler.parameters()).dtype
    larger: Tensor = upsampler(statistics.unnormalise(latent).to(dtype))
    return statistics.normalise(larger.to(latent.dtype))


ROUNDED_UP = 64
"""A canvas that is larger than the picture by less than this, both ways, is the picture with a margin around it."""


def _margins(canvas: Size, size: Size) -> tuple[int, int] | None:
    """Left and top margin of a picture on its canvas; None where the canvas is another size of the whole picture."""
    over = canvas[0] - size[0], canvas[1] - size[1]
    return (over[0] // 2, over[1] // 2) if all(0 <= side < ROUNDED_UP for side in over) else None


def on_canvas(frames: NDArray[np.uint8], canvas: Size) -> NDArray[np.uint8]:
    """Frames [T, H, W, 3] with their mirrored edges around them where the canvas is the size rounded up; else as they
    are, to be resized by `encode_clip`."""
    size = frames.shape[2], frames.shape[1]
    margins = _margins(canvas, size)
    if margins is None or canvas == size:
        return frames
    (left, top), (width, height) = margins, canvas
    around = ((0, 0), (top, height - size[1] - top), (left, width - size[0] - left), (0, 0))
    return np.pad(frames, around, mode="symmetric")


def off_canvas(frames: Tensor, canvas: Size, size: Size) -> Tensor:
    """Decoded frames [t, 3, h, w] about [-1, 1] as [t, 3, H, W] in [0, 1] at `size`: the mirror of `on_canvas`."""
    margins = _margins(canvas, size)
    if margins is not None:
        (left, top), (width, height) = margins, size
        frames = frames[:, :, top : top + height, left : left + width]
    return to_pixels(frames, size)


def to_pixels(frames: Tensor, size: Size) -> Tensor:
    """Decoded frames [t, 3, h, w] about [-1, 1] as [t, 3, H, W] in [0, 1] at `size` (width, height)."""
    return (resize(frames, size) / 2 + 0.5).clamp(0, 1)


def resize(frames: Tensor, size: Size) -> Tensor:
    """[t, 3, h, w] at `size` (width, height), bilinear, smoothed where it gets smaller; untouched at its own size."""
    if (frames.shape[3], frames.shape[2]) == size:
        return frames
    return functional.interpolate(frames, size=(size[1], size[0]), mode="bilinear", align_corners=False, antialias=True)


def _tile(vae: Any, canvas: Size) -> None:
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
