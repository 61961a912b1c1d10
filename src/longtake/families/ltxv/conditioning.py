"""Places conditioning clips and images in the tokens of a window, each with a strength."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from longtake.sampling.noise import Noise
from longtake.sampling.positions import Grid, to_tokens

PREFIX_LATENTS = 2
"""If a conditioning clip is placed after frame 0, this number of latent frames at its start become extra tokens. The
model sees these beside the tokens of the sampled video.

The clip's other latents are mixed into those of the video at the same place. The first ones cannot be, because a clip's
first latent covers one frame, and a latent in the middle of the video covers several.
"""


@dataclass(frozen=True)
class ConditioningItem:
    """A clip or an image that a window is conditioned on.

    `latent`: the normalised latents of the clip or image, [1, C, f, h, w].
    `frame`: the number (from 0) of the window's frame at which the item starts, a multiple of the VAE's temporal
        compression.
    `strength`: how strongly the window keeps the item, 0 to 1. At 1 the item stays unchanged. Below 1 its tokens are
        mixed with noise, whose share is 1 - `strength`, and are then denoised like the others.
    `is_guide`: True if the item is a clip that the video follows without containing it, such as a video of poses. All
        its tokens are extra tokens, which the model sees but which are no part of the video.
    """

    latent: Tensor
    frame: int = 0
    strength: float = 1.0
    is_guide: bool = False

    @property
    def num_extra(self) -> int:
        """The number of latent frames at the item's beginning that become extra tokens. The model sees these tokens,
        but they are no part of the sampled video.

        The rest of the item is mixed into the tokens of the video.
        """
        length = int(self.latent.shape[2])
        if self.is_guide:
            return length
        return 0 if self.frame == 0 else min(length, PREFIX_LATENTS)


@dataclass(frozen=True)
class TokenSequence:
    """The tokens of a window before the first step: n tokens with C channels each.

    The sequence begins with the extra tokens: tokens of conditioning items that the model sees, but that are no part of
    the sampled video. After them come the tokens of the window's own latents.

    `tokens`: [1, n, C].
    `mask`: the strength of each token, [1, n], from 0 (generated) to 1 (kept unchanged).
    `coords`: the position at which each token starts, [1, 3, n], as (seconds, y px, x px).
    `extra`: the number of extra tokens.
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
    """Returns the tokens from which the sampling of a window starts, with the conditioning items in place.

    First, all tokens of the window are noise, or lerp(init, noise, level) if `init` is given, where lerp(x, y, w) = x +
    w * (y - x). Then each item is placed:
    - A guide (an item that the video follows without showing it) becomes extra tokens at the beginning of the sequence.
    - Any other item at frame 0 is mixed into the window's tokens: lerp(token, item, strength).
    - Any other item at a later frame is split. Its first 2 (PREFIX_LATENTS) latent frames become extra tokens. The rest
      is mixed into the window's tokens as above. An image has one latent frame, so all of it becomes extra tokens.

    Extra tokens have the positions of the item's frames, and are mixed with noise of their own: lerp(noise, item,
    strength).

    `items`: the clips and images that the window is conditioned on.
    `shape`: the shape of the window's latents, [1, C, F, H, W].
    `grid`: gives the positions of latents in time and space.
    `noise`: a function of (name, shape) that returns noise. Equal names give equal noise.
    `init`: latents of the same shape, which the pass refines; None if it starts from noise alone.
    `level`: the first noise level of the pass, 0..1.

    Raises ValueError if an item reaches beyond the window's end. Source: LTX-Video's conditioning.
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
