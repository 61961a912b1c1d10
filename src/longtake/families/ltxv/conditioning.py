"""Places conditioning clips and images in the token sequence of a window, each with a strength."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from longtake.sampling.noise import Noise
from longtake.sampling.positions import Grid, to_tokens

PREFIX_LATENTS = 2
"""The number of latent frames at the start of a clip that become extra tokens if the clip is placed after frame 0.

They cannot replace the window's own latents, because a clip's first latent covers one frame and a latent in the middle
of the window covers several.
"""


@dataclass(frozen=True)
class ConditioningItem:
    """A clip or an image that a window is conditioned on.

    `latent`: normalised latents [1, C, f, h, w].
    `frame`: the number of the window's frame at which the item starts, a multiple of the temporal compression.
    `strength`: how strongly the item is held, 0 to 1. At 1 it stays unchanged. Below 1 its tokens start with a share 1
        - strength of noise, and are denoised.
    `is_guide`: True for a guide: a clip that the video follows without containing it. All its tokens are extra tokens.
    """

    latent: Tensor
    frame: int = 0
    strength: float = 1.0
    is_guide: bool = False

    @property
    def num_extra(self) -> int:
        """The number of the item's latent frames that become extra tokens. The others replace latents of the window."""
        length = int(self.latent.shape[2])
        if self.is_guide:
            return length
        return 0 if self.frame == 0 else min(length, PREFIX_LATENTS)


@dataclass(frozen=True)
class TokenSequence:
    """The tokens of a window before the first step.

    `tokens`: [1, n, C].
    `mask`: the strength of each token, [1, n] in 0 (generated) to 1 (held).
    `coords`: the position at which each token starts, [1, 3, n], as (seconds, y px, x px).
    `extra`: the number of extra tokens. They are the first tokens of the sequence and are not part of the video.
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
    """Returns the tokens that sampling starts from, for a window whose latents have `shape` = [1, C, F, H, W].

    First all tokens are noise, or lerp(init, noise, level) if there are latents `init` of the same shape. `level`
    (0..1) is the first noise level of the pass. Then each item is placed:
    - An item at frame 0 is mixed into the window's tokens: lerp(token, item, strength).
    - An image at a later frame becomes extra tokens at the beginning of the sequence, with the positions of that frame.
    - The first PREFIX_LATENTS latent frames of a clip at a later frame become extra tokens. The rest of the clip is
      mixed into the window's tokens.
    - A guide becomes extra tokens only.

    Extra tokens are mixed with noise of their own: lerp(noise, item, strength). Raises ValueError for an item that
    reaches beyond the window's end. Source: LTX-Video's conditioning.
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
