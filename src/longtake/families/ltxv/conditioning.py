"""Conditioning: clips and images placed in the token sequence, each with a strength."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from longtake.sampling.noise import Noise
from longtake.sampling.positions import Grid, to_tokens

PREFIX_LATENTS = 2
"""The number of first latents of a clip placed after the start that become extra tokens: a clip's own first latents
    differ from those in the middle of a video."""


@dataclass(frozen=True)
class Item:
    """A given clip: normalised latents [1, C, f, h, w], the pixel frame it starts at (8-aligned), its strength 0..1.

    strength 1 holds it as it is; below, its tokens carry 1 - strength of noise and are denoised from there on.
    `guide`: all of it stands beside the video as extra tokens, as an in-context reference, and none in it.
    """

    latent: Tensor
    frame: int = 0
    strength: float = 1.0
    guide: bool = False


@dataclass(frozen=True)
class TokenSequence:
    """Tokens [1, n, C] before the first step, `mask` [1, n] (a token's strength: 1 is kept, 0 is free) and `coords`
    [1, 3, n]; the first `extra` tokens are no part of the video."""

    tokens: Tensor
    mask: Tensor
    coords: Tensor
    extra: int


def place(
    items: Sequence[Item],
    shape: tuple[int, ...],
    grid: Grid,
    noise: Noise,
    *,
    init: Tensor | None = None,
    level: float = 1.0,
) -> TokenSequence:
    """The sequence that sampling starts from, for a video of latents `shape` = [1, C, F, H, W].

    It begins as noise; with `init` latents (of that shape) as level * noise + (1 - level) * init. Then each item is
    mixed in by its strength, lerp(there, latent, strength): at frame 0 in place; an image at a later frame as extra
    tokens in front, at its time; a clip at a later frame with its first two latents as extra tokens and the others in
    place; a guide all as extra tokens. Extra tokens mix with noise of their own. Source: LTX-Video's conditioning.
    """
    _, channels, frames, height, width = shape
    start = noise("init", (1, frames * height * width, channels))
    tokens = start if init is None else level * start + (1 - level) * to_tokens(init)
    tokens, mask = tokens.clone(), torch.zeros(1, tokens.shape[1], device=tokens.device)
    front: list[tuple[Tensor, Tensor, Tensor]] = []
    for item in items:
        length = item.latent.shape[2]
        beside = 0 if item.frame == 0 and not item.guide else length if item.guide else min(length, PREFIX_LATENTS)
        if beside:
            latent = item.latent[:, :, :beside]
            extra = torch.lerp(noise(f"item.{len(front):02d}", tuple(latent.shape)), latent, item.strength)
            coords = grid.coords(beside, height, width, item.frame)
            front.append((to_tokens(extra), torch.full((1, coords.shape[-1]), item.strength), coords))
        if beside < length:
            first = (item.frame // grid.temporal + beside) * height * width
            held = to_tokens(item.latent[:, :, beside:])
            within = slice(first, first + held.shape[1])
            if within.stop > tokens.shape[1]:
                raise ValueError(f"a clip of {length} latents at frame {item.frame} does not fit into {frames} latents")
            tokens[:, within] = torch.lerp(tokens[:, within], held, item.strength)
            mask[:, within] = item.strength
    extra_tokens, extra_mask, extra_coords = (
        (list(column) for column in zip(*front, strict=True)) if front else ([],) * 3
    )
    return TokenSequence(
        torch.cat([*extra_tokens, tokens], 1),
        torch.cat([*(part.to(mask.device) for part in extra_mask), mask], 1),
        torch.cat([*extra_coords, grid.coords(frames, height, width)], 2).to(tokens.device),
        sum(part.shape[1] for part in extra_tokens),
    )
