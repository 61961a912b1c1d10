"""The tokens of one modality in a window: the conditioning in them, how strongly it is held, and each token's position.

Masks follow LTX-2: a token with mask 1 is generated, and one with mask 0 is held as conditioned. Between them, a
conditioned token carries that share of the noise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from longtake.models.audiovisual import Stream
from longtake.sampling.noise import Noise
from longtake.sampling.positions import Grid, to_tokens


@dataclass(frozen=True)
class PlacedLatents:
    """Conditioning latents [1, C, f, h, w] that replace a window's from latent frame `index` on, held by `strength`
    (0: free, 1: unchanged)."""

    latent: Tensor
    index: int
    strength: float


@dataclass(frozen=True)
class Keyframe:
    """A conditioning image, as latents [1, C, 1, h, w], at pixel frame `frame`. Its tokens are added beside the
    video's, and held by `strength` (0: free, 1: unchanged)."""

    latent: Tensor
    frame: int
    strength: float


@dataclass(frozen=True)
class Track:
    """One modality of a window as n tokens.

    `clean` [1, n, C]: the conditioning, 0 where there is none. `mask` [1, n, 1]: the share of the noise that each
    token carries. `bounds` [1, axes, n, 2]: start and end of each token, in (seconds, y px, x px) for video and in
    seconds for audio. The last `extra` tokens are a keyframe's and no part of the result.
    """

    clean: Tensor
    mask: Tensor
    bounds: Tensor
    extra: int = 0

    @cached_property
    def levels(self) -> tuple[Tensor, Tensor]:
        """The k distinct values [k] of the mask, and each token's index [n] into them. k is small, so the network
        embeds k noise levels instead of n."""
        values, index = torch.unique(self.mask.flatten(), return_inverse=True)
        return values, index

    @cached_property
    def is_free(self) -> bool:
        """True if any token is generated. If not, the track carries no noise at any step."""
        return bool((self.mask > 0).any())

    def start(self, noise: Tensor, init: Tensor | None = None, level: float = 1.0) -> Tensor:
        """Returns the tokens [1, n, C] before the first step: lerp(clean, lerp(init, noise, level), mask).

        `init` [1, n - extra, C]: the tokens that a second pass refines, starting at noise `level` in 0..1; extra tokens
        start from 0. None starts from `noise` [1, n, C] alone.
        """
        if init is not None:
            beside = torch.zeros_like(self.clean[:, : self.extra])
            noise = torch.lerp(torch.cat([init, beside], 1), noise, level)
        return torch.lerp(self.clean, noise, self.mask)

    def result(self, tokens: Tensor) -> Tensor:
        """Returns `tokens` [1, n, C] without the extra ones."""
        return tokens[:, : tokens.shape[1] - self.extra]


def video_track(
    grid: Grid,
    shape: tuple[int, ...],
    placed: Sequence[PlacedLatents],
    keyframe: Keyframe | None = None,
    *,
    device: torch.device | str = "cpu",
) -> Track:
    """Returns the video track of a window whose latents have `shape` = [1, C, F, H, W].

    Where `placed` latents overlap, the last ones count. Raises ValueError if some reach beyond the window.
    """
    clean, mask = torch.zeros(shape, device=device), torch.ones((1, 1, *shape[2:]), device=device)
    for item in placed:
        frames = slice(item.index, item.index + item.latent.shape[2])
        if frames.stop > shape[2]:
            raise ValueError(f"latents {frames.start} to {frames.stop} do not fit into a window of {shape[2]}")
        clean[:, :, frames] = item.latent
        mask[:, :, frames] = 1 - item.strength
    bounds = grid.bounds(*shape[2:])
    tokens, weights = to_tokens(clean), to_tokens(mask)
    if keyframe is None:
        return Track(tokens, weights, bounds.to(device))
    image = to_tokens(keyframe.latent)
    return Track(
        torch.cat([tokens, image], 1),
        torch.cat([weights, torch.full_like(image[..., :1], 1 - keyframe.strength)], 1),
        torch.cat([bounds, grid.keyframe_bounds(shape[3], shape[4], keyframe.frame)], 2).to(device),
        image.shape[1],
    )


def audio_track(clean: Tensor, held: Tensor, strength: float, bounds: Tensor) -> Track:
    """Returns the audio track of a window.

    `clean` [1, n, C]: conditioning tokens. `held` [n] bool: those that are held by `strength`, 0..1; the others are
    generated. `bounds` [1, 1, n, 2]: start and end of each token in seconds.
    """
    mask = torch.where(held.to(clean.device), 1 - strength, 1.0)[None, :, None]
    return Track(clean, mask, bounds.to(clean.device))


def draw_noise(tracks: Mapping[Stream, Track], noise: Noise, name: str) -> dict[Stream, Tensor]:
    """Returns noise in the shape of every track's tokens; the draw of a modality is named `<modality>.<name>`."""
    return {stream: noise(f"{stream}.{name}", tuple(track.clean.shape)) for stream, track in tracks.items()}
