"""Previews: small pictures of the frames that are being sampled, made without the VAE's decoder.

A linear decoder takes the place of the VAE's. It is fitted to the context (the frames that the model continues),
because these are known both as frames and as latents. It is good enough for small pictures of frames with similar
content, and decodes them in milliseconds.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from longtake.media.planes import RGBFrames
from longtake.sampling.windows import Estimate, OnEstimate, ignore_estimate

MOST_PIXELS = 320
"""The largest width in pixels of a preview's pictures."""

LARGEST_PATCH = 16
"""A preview's picture shows each latent as a square of pixels. This is the largest side of the square in pixels."""

MOST_PICTURES = 12
"""The largest number of pictures of a preview."""

ENOUGH_CELLS = 1500
"""About how many latents (positions in time and space) the decoder of previews is fitted to. More would hardly make the
decoder better."""

RIDGE = 0.02
"""The penalty of the ridge regression that fits the decoder of previews to a clip, as a share of the mean variance of
the latents' channels."""


@dataclass(frozen=True)
class Preview:
    """Pictures of the frames that are being sampled.

    pictures: [t, h, w, 3] uint8 in playing order, at most 320 (MOST_PIXELS) wide. Each shows one latent frame.
    picture_s: the seconds for which each picture is shown.
    step, steps: the number of finished steps of the pass, and of all its steps.
    window, windows: the number of the window, from 1, and of all windows.
    """

    pictures: RGBFrames
    picture_s: float
    step: int
    steps: int
    window: int
    windows: int


class Previews(Protocol):
    """An object that receives the previews, and decides when the sampler makes the next one."""

    def is_due(self) -> bool:
        """Returns True if a preview should be made now."""
        ...

    def show(self, preview: Preview, cost_s: float) -> None:
        """Receives a preview. Making it took `cost_s` seconds, by which the sampling was delayed."""
        ...


@dataclass(frozen=True)
class LinearDecoder:
    """Turns latents into pictures: each latent becomes a square of pixels, by one linear map for all latents.

    weights: the linear map, [C + 1, patch * patch * 3]. Its last row is added to each result.
    patch: the side of the squares in pixels.
    """

    weights: Tensor
    patch: int

    @classmethod
    def fit(cls, latent: Tensor, pictures: RGBFrames) -> "LinearDecoder":
        """Returns the decoder that turns `latent` into small copies of `pictures` best, by ridge regression.

        latent: normalised latents [1, C, f, h, w].
        pictures: the picture of each latent frame, [f, H, W, 3] (see `pairs`).
        """
        _, channels, _, height, width = latent.shape
        patch = max(1, min(LARGEST_PATCH, MOST_PIXELS // width))
        pixels = torch.from_numpy(pictures).to(latent.device).permute(0, 3, 1, 2).float() / 255
        pixels = functional.interpolate(pixels, size=(height * patch, width * patch), mode="area")
        wanted = functional.pixel_unshuffle(pixels, patch).permute(0, 2, 3, 1).flatten(0, 2)
        cells = latent[0].permute(1, 2, 3, 0).flatten(0, 2).float()
        stride = max(1, len(cells) // ENOUGH_CELLS)
        cells, wanted = cells[::stride], wanted[::stride]
        centre, mean = cells.mean(0), wanted.mean(0)
        spread = cells - centre
        covariance = (spread.T @ spread / len(cells)).cpu().double()
        shared = (spread.T @ (wanted - mean) / len(cells)).cpu().double()
        penalty = RIDGE * max(float(covariance.diagonal().mean()), 1e-9)
        weights = torch.linalg.solve(covariance + penalty * torch.eye(channels, dtype=torch.double), shared)
        weights = weights.to(latent.device, torch.float)
        return cls(torch.cat([weights, (mean - centre @ weights)[None]]), patch)

    def pictures(self, latent: Tensor) -> RGBFrames:
        """Returns normalised latents [1, C, f, h, w] as coarse pictures [f, h * patch, w * patch, 3]: each latent
        becomes a square of `patch` x `patch` pixels."""
        cells = latent[0].permute(1, 2, 3, 0).float()
        values = (cells @ self.weights[:-1] + self.weights[-1]).clamp(0, 1).mul(255).round().byte()
        pixels = functional.pixel_shuffle(values.permute(0, 3, 1, 2), self.patch)
        return pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def evenly_spaced(numbers: range, most: int) -> list[int]:
    """Returns at most `most` of the numbers at about equal distances. The last number is always among them."""
    count = min(len(numbers), most)
    return [numbers[round((place + 1) * len(numbers) / count) - 1] for place in range(count)]


def middle_frames(frames: int, latents: int) -> list[int]:
    """Returns for each latent frame of a clip the number (from 0) of the middle one of the frames that it covers.

    frames: the number of frames of a clip, 1 plus a multiple of the number that a latent frame covers.
    latents: the number of its latent frames. The first one covers one frame.
    """
    covered = (frames - 1) // max(latents - 1, 1)
    return [0, *(1 + covered * number + covered // 2 for number in range(latents - 1))]


def pairs(latent: Tensor, frames: RGBFrames) -> tuple[Tensor, RGBFrames]:
    """Returns what the decoder of previews is fitted to: n latent frames [1, C, n, h, w] of a clip, and a picture of
    each, [n, H, W, 3].

    The picture is the middle one of the frames that the latent frame covers. The n latent frames are evenly spaced. n
    is the least number with n * h * w >= 1500 (ENOUGH_CELLS), but at most f. Both results are copies.

    latent: normalised latents [1, C, f, h, w].
    frames: the frames [T, H, W, 3] that the VAE has turned into `latent`.
    """
    _, _, count, height, width = latent.shape
    used = evenly_spaced(range(count), -(-ENOUGH_CELLS // (height * width)))
    middles = middle_frames(len(frames), count)
    return latent[:, :, used], frames[[middles[number] for number in used]]


@dataclass(frozen=True)
class PreviewedFrames:
    """The new frames of a window, of which previews are made during sampling.

    latents: the indices of their latent frames in the window, from 0.
    latent_s: the seconds that a latent frame covers.
    window, windows: the number of the window, from 1, and the number of all windows.
    is_reversed: True if the frames are sampled in the reverse of the playing order.
    """

    latents: range
    latent_s: Fraction
    window: int
    windows: int
    is_reversed: bool = False

    def shown(self) -> list[int]:
        """Returns the numbers of the latent frames that a preview shows, in playing order.

        There are at most 12 (MOST_PICTURES), at about equal distances.
        """
        numbers = evenly_spaced(self.latents, MOST_PICTURES)
        return numbers[::-1] if self.is_reversed else numbers


LazyDecoder = Callable[[], LinearDecoder]
"""A function that returns a decoder of previews. The first call fits the decoder; later calls return the same one."""


def lazy_decoder(latent: Tensor, frames: RGBFrames) -> LazyDecoder:
    """Returns a function whose first call fits a decoder of previews to a clip, and which returns this decoder in every
    call.

    latent: the clip's normalised latents, [1, C, f, h, w].
    frames: the clip's frames, [T, H, W, 3]. Only the few that are needed are kept in memory (see `pairs`).
    """
    return cache(partial(LinearDecoder.fit, *pairs(latent, frames)))


def preview_callback(previews: Previews | None, decoder: LazyDecoder | None, previewed: PreviewedFrames) -> OnEstimate:
    """Returns a callback for the sampler that makes previews of a window in one pass.

    previews: decides when a preview is made, and receives it; None for no previews.
    decoder: returns the decoder of the previews; None for no previews.
    previewed: the frames that the previews show.
    """
    if previews is None or decoder is None or not previewed.latents:
        return ignore_estimate

    def on_estimate(step: int, steps: int, estimate: Estimate) -> None:
        if not previews.is_due():
            return
        numbers = previewed.shown()
        latent = estimate()
        latent[0, 0, 0, 0, 0].item()  # waits for the model's own work, which is no cost of the preview
        started = time.perf_counter()
        pictures = decoder().pictures(latent[:, :, numbers])
        seconds = float(len(previewed.latents) * previewed.latent_s / len(numbers))
        preview = Preview(pictures, seconds, step + 1, steps, previewed.window, previewed.windows)
        previews.show(preview, time.perf_counter() - started)

    return on_estimate
