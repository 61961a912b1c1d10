"""Converts between frames and latents: encodes clips, and decodes latents as they arrive.

Long videos are decoded in tiles of time: runs of frames that are decoded together. Neighbouring tiles overlap.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from longtake.plans import Size
from longtake.sampling import tiling
from longtake.sampling.noise import Noise
from longtake.sampling.vae_progress import OnShare, ignore_share, reporting_share
from longtake.video import OnProgress, Progress, ignore_progress

TILE_FRAMES = 80
"""The VAE decodes a long video in pieces (tiles in time) of this many frames, so that the decoder's memory is
limited."""

BLEND_FRAMES = 24
"""The number of frames that neighbouring tiles of time share. Over these frames the first tile fades into the
second."""

FRAMES_AT_ONCE = 8
"""The largest number of frames at a time that are resized before they are encoded, and that `decode_frames` yields. It
limits the memory: a frame of 3840x2160 has 100 MB in float32."""


@dataclass(frozen=True)
class Statistics:
    """The mean and standard deviation of a VAE's latents per channel, each [1, C, 1, 1, 1] float32."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, vae: Any, device: torch.device | str = "cpu") -> "Statistics":
        """Returns the mean and the standard deviation of each latent channel, which are stored in a VAE, on
        `device`."""
        return cls(*(values.to(device).float().view(1, -1, 1, 1, 1) for values in (vae.latents_mean, vae.latents_std)))

    @property
    def channels(self) -> int:
        """The number of latent channels."""
        return self.mean.shape[1]

    def normalise(self, latent: Tensor) -> Tensor:
        """Turns the VAE's latents [B, C, F, H, W] into normalised ones, with mean 0 and standard deviation 1."""
        return (latent - self.mean) / self.std

    def unnormalise(self, latent: Tensor) -> Tensor:
        """Turns normalised latents [B, C, F, H, W] into unnormalised ones, which the VAE decodes."""
        return latent * self.std + self.mean


def encode_clip(vae: Any, frames: NDArray[np.uint8], canvas: Size, device: torch.device | str = "cpu") -> Tensor:
    """Encodes a clip. Returns normalised latents [1, C, f, h, w] float32 on `device`.

    vae: diffusers' video autoencoder of LTX-Video or LTX-2.
    frames: [T, H, W, 3], where T is 1 plus a multiple of the VAE's temporal compression. They are resized to `canvas`.
    canvas: (width, height) in pixels, multiples of the VAE's spatial compression.

    The mode of the VAE's distribution is used, so that the same frames always give the same latents.
    """
    pieces = (piece.to(device).permute(0, 3, 1, 2) for piece in torch.from_numpy(frames).split(FRAMES_AT_ONCE))
    pixels = torch.cat([resize(piece.float().div_(127.5).sub_(1), canvas).to(vae.dtype) for piece in pieces])
    _set_tiling(vae, canvas, len(frames), pixels.device)
    latent = vae.encode(pixels.transpose(0, 1)[None]).latent_dist.mode()
    return Statistics.of(vae, device).normalise(latent.float())


def noised_for_decoder(latent: Tensor, noise: Tensor, scale: float) -> Tensor:
    """Returns latent * (1 - scale) + noise * scale.

    A decoder that is conditioned on a timestep is trained on latents with a little noise, so it needs such latents.

    noise: standard normal noise in the shape of `latent`.
    scale: the share of noise, 0..1.
    """
    return latent * (1 - scale) + noise * scale


def decoder_noise(noise: Noise, first: int, latent: Tensor) -> Tensor:
    """Returns the noise for a part of a video's latents, before they are decoded. It has the shape of `latent`.

    Each latent frame of the video has its own draw, so its noise does not depend on how the video is split into parts.

    noise: a function that returns the noise of one draw, from the draw's name and shape.
    first: the number (from 0) of the part's first latent frame in the video.
    latent: the latents of the part, [1, C, f, h, w].
    """
    shape = (1, latent.shape[1], 1, *latent.shape[3:])
    return torch.cat([noise(f"decode.{first + i:04d}", shape) for i in range(latent.shape[2])], 2)


@dataclass(frozen=True)
class Latents:
    """Consecutive latent frames of a video that are ready to be decoded. The objects of one video come in order.

    latent: [1, C, f, h, w], unnormalised, as the VAE decodes them (see `Statistics.unnormalise`).
    last: True if the video ends with these latent frames.
    """

    latent: Tensor
    last: bool


def decode(vae: Any, latent: Tensor, timestep: float, on_share: OnShare = ignore_share) -> Tensor:
    """Decodes unnormalised latents [1, C, f, h, w] into frames [t, 3, H, W] float32 in about -1..1.

    The first latent frame gives one frame; each later one gives as many as the VAE's temporal compression.

    vae: diffusers' video autoencoder of LTX-Video or LTX-2.
    timestep: the timestep (0..1) that the decoder is conditioned on. A VAE without timestep conditioning ignores it.
    on_share: the callback that receives the share of the work that is done, many times.
    """
    ratio = vae.spatial_compression_ratio
    num_frames = (latent.shape[2] - 1) * vae.temporal_compression_ratio + 1
    canvas = latent.shape[4] * ratio, latent.shape[3] * ratio
    num_tiles = _set_tiling(vae, canvas, num_frames, latent.device)
    time = None
    if vae.config.timestep_conditioning:
        time = torch.full((1,), timestep, device=latent.device, dtype=vae.dtype)
    with reporting_share(vae.decoder, num_tiles, on_share):
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
    """Yields the frames from `first_frame` to before `last_frame` of a video, each as soon as its latents have arrived.

    The frames come in chunks [t, 3, H, W] float32 in about -1..1 of at most 8 (FRAMES_AT_ONCE) frames, so that a caller
    can resize them in little memory. A long video is decoded in parts of 80 (TILE_FRAMES) frames, called tiles. A tile
    shares 24 (BLEND_FRAMES) frames with the next tile, and fades into it linearly. Latents far before `first_frame` are
    not decoded.

    vae: diffusers' video autoencoder of LTX-Video or LTX-2.
    latents: all latents of the video, from its first frame on.
    timestep: the timestep (0..1) that the decoder is conditioned on.
    on_progress: the callback that receives the progress before each tile and, many times, while the tile is decoded.
    """
    temporal = vae.temporal_compression_ratio
    tile, shared = TILE_FRAMES // temporal, BLEND_FRAMES // temporal
    position = max(0, first_frame // temporal - shared)
    origin = position * temporal
    unwanted = position
    waiting: Tensor | None = None
    fading: Tensor | None = None
    for arrived in latents:
        wanted = arrived.latent[:, :, unwanted:]
        unwanted = max(0, unwanted - arrived.latent.shape[2])
        waiting = wanted if waiting is None else torch.cat([waiting, wanted], 2)
        while waiting.shape[2] > (0 if arrived.last else tile):
            ends = arrived.last and waiting.shape[2] <= tile + shared
            # The first latent of a tile decodes to one frame. `start` is that frame's number in the video.
            start = position * temporal
            stop = last_frame if ends else start + (tile - shared) * temporal
            tile_frames = range(min(start, last_frame) - origin, min(stop, last_frame) - origin)
            on_share = partial(_report_frames, on_progress, tile_frames, last_frame - origin)
            on_share(0)
            frames = decode(vae, waiting if ends else waiting[:, :, :tile], timestep, on_share)
            if fading is not None:
                share = torch.linspace(0, 1, len(fading) + 2, device=frames.device)[1:-1, None, None, None]
                frames = torch.cat([torch.lerp(fading, frames[: len(fading)], share), frames[len(fading) :]])
            final = frames if ends else frames[: (tile - shared) * temporal]
            fading = frames[len(final) :]
            chunk = final[max(first_frame - start, 0) : max(last_frame - start, 0)]
            if len(chunk):
                yield from chunk.split(FRAMES_AT_ONCE)
            if ends:
                return
            waiting, position = waiting[:, :, tile - shared :], position + tile - shared


def _report_frames(on_progress: OnProgress, frames: range, num_frames: int, share: float) -> None:
    """Reports to `on_progress` how many frames of a video are decoded.

    frames: the numbers of the frames that are being decoded now, from 0 for the first frame that is decoded at all. All
        frames before them are decoded.
    num_frames: the number of frames to decode, which is reported as the total.
    share: the share of `frames` that is decoded, 0..1.
    """
    on_progress(Progress("frames", frames.start + int(share * len(frames)), num_frames))


def upsample(upsampler: Any, latent: Tensor, statistics: Statistics) -> Tensor:
    """Doubles the height and width of normalised latents [1, C, F, H, W]. Returns normalised latents [1, C, F, 2H, 2W].

    upsampler: diffusers' latent upsampler of LTX-Video or LTX-2.
    statistics: the mean and standard deviation of the VAE's latents. They are needed because the upsampler works on
        unnormalised latents.
    """
    dtype = next(upsampler.parameters()).dtype
    larger: Tensor = upsampler(statistics.unnormalise(latent).to(dtype))
    return statistics.normalise(larger.to(latent.dtype))


def round_trip(vae: Any, upsampler: Any | None, device: torch.device, timestep: float) -> None:
    """Encodes and decodes a few small frames. On a GPU, libraries prepare themselves at their first use, and the first
    request would wait for that.

    vae: diffusers' video autoencoder of LTX-Video or LTX-2.
    upsampler: doubles the size of the latents before they are decoded; None if requests use none.
    timestep: the timestep (0..1) that the decoder is conditioned on.
    """
    side, statistics = 2 * vae.spatial_compression_ratio, Statistics.of(vae, device)
    frames = np.zeros((vae.temporal_compression_ratio + 1, side, side, 3), np.uint8)
    latent = encode_clip(vae, frames, (side, side), device)
    if upsampler is not None:
        latent = upsample(upsampler, latent, statistics)
    decode(vae, statistics.unnormalise(latent), timestep)


LARGEST_PADDING = 64
"""Frames are padded to a canvas (the size at which the model works) if it exceeds them by less than this number of
pixels on each axis. Otherwise they are resized to it."""


def _margins(canvas: Size, size: Size) -> tuple[int, int] | None:
    """Returns (left, top): the margins in pixels with which frames of `size` are padded to the size `canvas`.

    Returns None if such frames are resized instead: the canvas is smaller than they are, or larger by 64 pixels
    (LARGEST_PADDING) or more, on any axis.

    canvas: the (width, height) in pixels of the frames that the VAE encodes and decodes.
    size: the (width, height) in pixels of the frames outside the VAE.
    """
    over = canvas[0] - size[0], canvas[1] - size[1]
    return (over[0] // 2, over[1] // 2) if all(0 <= side < LARGEST_PADDING for side in over) else None


def padded_to_canvas(frames: NDArray[np.uint8], canvas: Size) -> NDArray[np.uint8]:
    """Returns frames [T, H, W, 3] padded to the canvas with their mirrored edges, evenly on opposite sides.

    `canvas` is (width, height) in pixels.
    The frames are returned unchanged if the canvas is smaller than they are, or larger by 64 pixels (LARGEST_PADDING)
    or more, on any axis. `encode_clip` resizes such frames.
    """
    size = frames.shape[2], frames.shape[1]
    margins = _margins(canvas, size)
    if margins is None or canvas == size:
        return frames
    (left, top), (width, height) = margins, canvas
    around = ((0, 0), (top, height - size[1] - top), (left, width - size[0] - left), (0, 0))
    return np.pad(frames, around, mode="symmetric")


def cropped_from_canvas(frames: Tensor, canvas: Size, size: Size) -> Tensor:
    """Returns decoded frames cropped or resized from the canvas to `size`, in 0..1. It undoes `padded_to_canvas`.

    Frames that `padded_to_canvas` has padded lose their margins. Frames that were resized instead are resized back.

    frames: [t, 3, h, w] in about -1..1, of the canvas's size.
    canvas: (width, height) in pixels.
    size: the (width, height) in pixels of the result.
    """
    margins = _margins(canvas, size)
    if margins is not None:
        (left, top), (width, height) = margins, size
        frames = frames[:, :, top : top + height, left : left + width]
    return to_pixels(frames, size)


def to_pixels(frames: Tensor, size: Size) -> Tensor:
    """Returns frames [t, 3, h, w] in about -1..1 resized to `size` (width, height), scaled to 0..1 and clamped."""
    return (resize(frames, size) / 2).add_(0.5).clamp_(0, 1)


def resize(frames: Tensor, size: Size) -> Tensor:
    """Returns frames [t, 3, h, w] resized to `size` (width, height), bilinearly and, if they shrink, antialiased."""
    if (frames.shape[3], frames.shape[2]) == size:
        return frames
    return functional.interpolate(frames, size=(size[1], size[0]), mode="bilinear", align_corners=False, antialias=True)


def _set_tiling(vae: Any, canvas: Size, num_frames: int, device: torch.device) -> int:
    """Sets whether the VAE splits frames of size `canvas` (width, height) into tiles or works on whole frames.

    Returns the number of tiles of a frame: 1 for a whole frame.
    """
    tiles = tiling.choose(vae, canvas, num_frames, device)
    vae.use_framewise_encoding = vae.use_framewise_decoding = False
    if tiles is None or max(canvas) <= tiles.side:
        vae.disable_tiling()
        return 1
    vae.enable_tiling(
        tile_sample_min_height=tiles.side,
        tile_sample_min_width=tiles.side,
        tile_sample_stride_height=tiles.step,
        tile_sample_stride_width=tiles.step,
    )
    return tiles.count(canvas)
