"""Previews: small pictures of the frames that are being sampled, made without the VAE's decoder.

Source and context are known twice: as frames, and as the latents that the VAE has made of them. From these pairs a
linear decoder is fitted. It is good enough for small pictures of frames with the same content, and takes milliseconds.
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
"""The largest side in pixels of the square that a preview has for each latent."""

MOST_PICTURES = 12
"""The largest number of pictures of a preview."""

ENOUGH_CELLS = 1500
"""A number of latents from which a decoder can be fitted. More of them hardly make it better."""

RIDGE = 0.02
"""How strongly large weights of a decoder are avoided, relative to the variance of the latents' channels."""


@dataclass(frozen=True)
class Preview:
    """Pictures of the frames that are being sampled.

    pictures: [t, h, w, 3] uint8 in playing order, at most 320 (MOST_PIXELS) wide. Each shows one latent frame.
    picture_s: the seconds for which each picture is shown.
    step, steps: the number of finished steps of the pass, and the number of all its steps.
    window, windows: the number of the window, from 1, and the number of all windows.
    """

    pictures: RGBFrames
    picture_s: float
    step: int
    steps: int
    window: int
    windows: int


class Previews(Protocol):
    """Says when a preview is due, and receives it."""

    def is_due(self) -> bool:
        """Returns whether a preview should be made now."""
        ...

    def show(self, preview: Preview, cost_s: float) -> None:
        """Receives a preview. Making it has delayed the sampling by `cost_s` seconds."""
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
        """Returns latents [1, C, f, h, w] as pictures [f, h * patch, w * patch, 3]."""
        cells = latent[0].permute(1, 2, 3, 0).float()
        values = (cells @ self.weights[:-1] + self.weights[-1]).clamp(0, 1).mul(255).round().byte()
        pixels = functional.pixel_shuffle(values.permute(0, 3, 1, 2), self.patch)
        return pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def even_numbers(numbers: range, most: int) -> list[int]:
    """Returns at most `most` of the numbers, at even distances, the last one among them."""
    count = min(len(numbers), most)
    return [numbers[round((place + 1) * len(numbers) / count) - 1] for place in range(count)]


def middle_frames(frames: int, latents: int) -> list[int]:
    """Returns for each latent frame the number of the frame in the middle of those that it covers.

    frames: the number of frames of a clip, 1 plus a multiple of the number that a latent frame covers.
    latents: the number of its latent frames. The first one covers one frame.
    """
    covered = (frames - 1) // max(latents - 1, 1)
    return [0, *(1 + covered * number + covered // 2 for number in range(latents - 1))]


def pairs(latent: Tensor, frames: RGBFrames) -> tuple[Tensor, RGBFrames]:
    """Returns copies of latent frames from which a decoder can be fitted, [1, C, n, h, w], and of the frame that each
    of them stands for, [n, H, W, 3]. It is the frame in the middle of those that the latent frame covers.

    latent: normalised latents [1, C, f, h, w].
    frames: the frames [T, H, W, 3] that the VAE has turned into `latent`.
    """
    _, _, count, height, width = latent.shape
    used = even_numbers(range(count), -(-ENOUGH_CELLS // (height * width)))
    middles = middle_frames(len(frames), count)
    return latent[:, :, used], frames[[middles[number] for number in used]]


@dataclass(frozen=True)
class Made:
    """The frames of a window that are being made, and how they are shown.

    latents: the numbers of their latent frames in the window.
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
        """Returns the numbers of the latent frames that a preview shows, in playing order: at most 12 (MOST_PICTURES),
        at even distances."""
        numbers = even_numbers(self.latents, MOST_PICTURES)
        return numbers[::-1] if self.is_reversed else numbers


Fit = Callable[[], LinearDecoder]
"""A function that returns a decoder. It fits the decoder when it is first called."""


def fitted_once(latent: Tensor, frames: RGBFrames) -> Fit:
    """Returns a function that returns the decoder for these latents and frames (see `pairs`). It keeps only the few of
    them that it needs."""
    return cache(partial(LinearDecoder.fit, *pairs(latent, frames)))


def previewing(previews: Previews | None, fit: Fit | None, made: Made) -> OnEstimate:
    """Returns the callback that makes the previews of one pass over a window.

    previews: says when a preview is due, and receives it; None for no previews.
    fit: returns the decoder. With None there are no previews either.
    made: the frames of the window that are being made.
    """
    if previews is None or fit is None or not made.latents:
        return ignore_estimate

    def on_estimate(step: int, steps: int, estimate: Estimate) -> None:
        if not previews.is_due():
            return
        numbers = made.shown()
        latent = estimate()
        latent[0, 0, 0, 0, 0].item()  # waits for the model's own work, which is no cost of the preview
        started = time.perf_counter()
        pictures = fit().pictures(latent[:, :, numbers])
        seconds = float(len(made.latents) * made.latent_s / len(numbers))
        preview = Preview(pictures, seconds, step + 1, steps, made.window, made.windows)
        previews.show(preview, time.perf_counter() - started)

    return on_estimate
