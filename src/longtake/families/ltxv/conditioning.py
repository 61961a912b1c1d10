"""Conditioning: clips and images placed in the token sequence of a window, each with a strength."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from longtake.sampling.noise import Noise
from longtake.sampling.positions import Grid, to_tokens

PREFIX_LATENTS = 2
"""Latent frames at the start of a clip placed later in the window that become extra tokens. They differ from those in
the middle of a video, because a clip's first latent is one frame."""


@dataclass(frozen=True)
class ConditioningItem:
    """A clip or an image that the window is conditioned on.

    `latent` [1, C, f, h, w] is normalised; `frame` is the pixel frame that it starts at, a multiple of the temporal
    compression. `strength` 1 holds it unchanged; below, its tokens start with 1 - strength of noise and are denoised.
    `is_guide`: an in-context reference, which is placed wholly beside the video as extra tokens.
    """

    latent: Tensor
    frame: int = 0
    strength: float = 1.0
    is_guide: bool = False

    @property
    def num_extra(self) -> int:
        """Latent frames of the item that become extra tokens; the others replace the window's own."""
        length = int(self.latent.shape[2])
        if self.is_guide:
            return length
        return 0 if self.frame == 0 else min(length, PREFIX_LATENTS)


@dataclass(frozen=True)
class TokenSequence:
    """The tokens of a window before the first step.

    `tokens` [1, n, C]; `mask` [1, n]: each token's strength (1 is held, 0 is generated); `coords` [1, 3, n]: where each
    token starts, in (seconds, y px, x px). The first `extra` tokens are no part of the video.
    """

    tokens: Tensor
    mask: Tensor
    coords: Tensor
    extra: int


def place(
    items: Sequence[ConditioningItem],
    shape: tuple[int, ...],
    grid: Grid,
    noise: Noise,
    *,
    init: Tensor | None = None,
    level: float = 1.0,
) -> TokenSequence:
    """Returns the sequence that sampling starts from, for a window of latents `shape` = [1, C, F, H, W].

    It begins as noise, or with `init` latents of that shape as level * noise + (1 - level) * init. Then each item is
    mixed in: lerp(there, latent, strength). At frame 0 it is mixed in in place. An image at a later frame becomes extra
    tokens in front, at its time. A clip at a later frame has its first PREFIX_LATENTS as extra tokens and the rest in
    place. A guide is extra tokens only. Extra tokens are mixed with noise of their own. Raises ValueError for an item
    that reaches beyond the window. Source: LTX-Video's conditioning.
    """
    _, channels, frames, height, width = shape
    start = noise("init", (1, frames * height * width, channels))
    tokens = start if init is None else level * start + (1 - level) * to_tokens(init)
    tokens, mask = tokens.clone(), torch.zeros(1, tokens.shape[1], device=tokens.device)
    front: list[tuple[Tensor, Tensor, Tensor]] = []
    for item in items:
        length, beside = item.latent.shape[2], item.num_extra
        if beside:
            latent = item.latent[:, :, :beside]
            extra = torch.lerp(noise(f"item.{len(front):02d}", tuple(latent.shape)), latent, item.strength)
            coords = grid.coords(beside, height, width, item.frame)
            front.append((to_tokens(extra), torch.full((1, coords.shape[-1]), item.strength), coords))
        if beside < length:
            first = (item.frame // grid.temporal + beside) * height * width
            latent_tokens = to_tokens(item.latent[:, :, beside:])
            within = slice(first, first + latent_tokens.shape[1])
            if within.stop > tokens.shape[1]:
                raise ValueError(f"a clip of {length} latents at frame {item.frame} does not fit into {frames} latents")
            tokens[:, within] = torch.lerp(tokens[:, within], latent_tokens, item.strength)
            mask[:, within] = item.strength
    return TokenSequence(
        torch.cat([*(extra for extra, _, _ in front), tokens], 1),
        torch.cat([*(strengths.to(mask.device) for _, strengths, _ in front), mask], 1),
        torch.cat([*(coords for _, _, coords in front), grid.coords(frames, height, width)], 2).to(tokens.device),
        sum(extra.shape[1] for extra, _, _ in front),
    )
