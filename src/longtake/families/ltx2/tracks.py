"""One modality of a window as tokens: what is given, how strongly it holds, and where each token is.

Masks follow LTX-2: 1 is generated, 0 is kept, between them a given token carries that share of the noise.
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
class Held:
    """Latents [1, C, f, h, w] in their place from latent frame `index` on, held with `strength` 0..1."""

    latent: Tensor
    index: int
    strength: float


@dataclass(frozen=True)
class Keyframe:
    """An image as latents [1, C, 1, h, w] for pixel frame `frame`: tokens beside the video, held with `strength`."""

    latent: Tensor
    frame: int
    strength: float


@dataclass(frozen=True)
class Track:
    """Tokens `clean` [1, n, C], their `mask` [1, n, 1] and `bounds` [1, axes, n, 2] (start and end of each token, on
    the axes seconds, y px, x px of video and seconds of audio). The last `extra` tokens are no part of the result."""

    clean: Tensor
    mask: Tensor
    bounds: Tensor
    extra: int = 0

    @cached_property
    def levels(self) -> tuple[Tensor, Tensor]:
        """The distinct values [k] of the mask, and each token's index [n] into them: noise levels are per token, but
        only a few differ."""
        values, index = torch.unique(self.mask.flatten(), return_inverse=True)
        return values, index

    @cached_property
    def is_free(self) -> bool:
        """True if any token is generated; a track that is wholly given has no noise at any step."""
        return bool((self.mask > 0).any())

    def start(self, noise: Tensor, init: Tensor | None = None, scale: float = 1.0) -> Tensor:
        """The tokens before the first step: lerp(clean, lerp(init, noise, scale), mask).

        `init` [1, n - extra, C] is what a second scale refines; extra tokens begin at 0 beside it.
        """
        if init is not None:
            beside = torch.zeros_like(self.clean[:, : self.extra])
            noise = torch.lerp(torch.cat([init, beside], 1), noise, scale)
        return torch.lerp(self.clean, noise, self.mask)

    def result(self, tokens: Tensor) -> Tensor:
        """The tokens without the extra ones."""
        return tokens[:, : tokens.shape[1] - self.extra]


def video_track(
    grid: Grid,
    shape: tuple[int, ...],
    held: Sequence[Held],
    keyframe: Keyframe | None = None,
    *,
    device: torch.device | str = "cpu",
) -> Track:
    """The video of a window of latents `shape` = [1, C, F, H, W]; of latents held in one place the last counts."""
    clean, mask = torch.zeros(shape, device=device), torch.ones((1, 1, *shape[2:]), device=device)
    for given in held:
        place = slice(given.index, given.index + given.latent.shape[2])
        if place.stop > shape[2]:
            raise ValueError(f"latents {place.start} to {place.stop} do not fit into a window of {shape[2]}")
        clean[:, :, place] = given.latent
        mask[:, :, place] = 1 - given.strength
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


def audio_track(clean: Tensor, kept: Tensor, strength: float, bounds: Tensor) -> Track:
    """The audio of a window: tokens `clean` [1, n, C], of which those with `kept` [n] are held with `strength`."""
    mask = torch.where(kept.to(clean.device), 1 - strength, 1.0)[None, :, None]
    return Track(clean, mask, bounds.to(clean.device))


def drawn(tracks: Mapping[Stream, Track], noise: Noise, name: str) -> dict[Stream, Tensor]:
    """Noise for every track, of `<modality>.<name>`."""
    return {stream: noise(f"{stream}.{name}", tuple(track.clean.shape)) for stream, track in tracks.items()}
