"""The tokens of video or audio that are sampled together, each with its conditioning, its mask and its position.

Masks follow LTX-2. A token with mask 1 is generated from noise. A token with mask 0 is kept: it has the value of its
conditioning. A token with a mask m between 0 and 1 starts as its conditioning with a share m of noise, and is denoised.
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
    """Conditioning latents [1, C, f, h, w] that replace those of the sampled video from latent frame `index` on.

    `strength` is how strongly they keep their values during sampling, 0 (not at all) to 1 (unchanged).
    """

    latent: Tensor
    index: int
    strength: float


@dataclass(frozen=True)
class Keyframe:
    """A conditioning image, as latents [1, C, 1, h, w]: what frame number `frame` (from 0) of the frames that are
    sampled together should look like. Frames of the video are counted, not latent frames.

    Its tokens do not replace tokens of the video. They are added to the sequence as extra tokens. `strength` is how
    strongly they keep their values during sampling, 0 (not at all) to 1 (unchanged).
    """

    latent: Tensor
    frame: int
    strength: float


@dataclass(frozen=True)
class Track:
    """The conditioning, the mask and the positions of the n tokens of one modality of a window.

    `clean`: the conditioning [1, n, C]; 0 where there is none.
    `mask`: the noise level of each token, as a share of the step's noise level: [1, n, 1] in 0 (kept) to 1 (generated).
    `bounds`: the start and the end of each token on each axis, [1, axes, n, 2]. The axes are (seconds, y px, x px) for
        video, and seconds for audio.
    `extra`: the number of extra tokens, which are not those of the video but those of a conditioning image. They are
        the last ones of the n tokens, and `result` drops them.
    """

    clean: Tensor
    mask: Tensor
    bounds: Tensor
    extra: int = 0

    @cached_property
    def levels(self) -> tuple[Tensor, Tensor]:
        """(values, index): the k distinct values of `mask`, [k], and which of them each token has, [n].

        Token i has the value `values[index[i]]`: its noise level as a share of the step's, 0 (the token is kept) to 1
        (it is generated). The transformer embeds only the k distinct noise levels instead of one for each token, which
        saves memory.
        """
        values, index = torch.unique(self.mask.flatten(), return_inverse=True)
        return values, index

    @cached_property
    def is_free(self) -> bool:
        """True if sampling changes any of the tokens, False if all are kept. It changes those with a `mask` above 0."""
        return bool((self.mask > 0).any())

    def start(self, noise: Tensor, init: Tensor | None = None, level: float = 1.0) -> Tensor:
        """Returns the tokens [1, n, C] before the first step of a pass. Tokens with mask 0 keep their conditioning.

        `noise`: the noise [1, n, C].
        `init`: the tokens [1, n - extra, C] that a second pass refines; None for a pass that starts from noise alone.
            The extra tokens of a conditioning image are not in `init`; 0 is used for them.
        `level`: the noise level at which a pass with `init` starts, 0..1.

        With lerp(x, y, w) = x + w * (y - x), the result is:
        - lerp(clean, noise, mask) if `init` is None;
        - lerp(clean, lerp(init, noise, level), mask) otherwise.
        """
        if init is not None:
            beside = torch.zeros_like(self.clean[:, : self.extra])
            noise = torch.lerp(torch.cat([init, beside], 1), noise, level)
        return torch.lerp(self.clean, noise, self.mask)

    def result(self, tokens: Tensor) -> Tensor:
        """Returns `tokens` [1, n, C] without those of a conditioning image, the last ones: [1, n - extra, C]."""
        return tokens[:, : tokens.shape[1] - self.extra]


def video_track(
    grid: Grid,
    shape: tuple[int, ...],
    placed: Sequence[PlacedLatents],
    keyframe: Keyframe | None = None,
    *,
    device: torch.device | str = "cpu",
) -> Track:
    """Returns the video track of a window: the tokens of latents of `shape` = [1, C, F, H, W], with their
    conditioning.

    `grid`: how many frames and pixels a latent covers, and the frame rate.
    `placed`: the conditioning latents. Where two overlap, the later one in the sequence is used.
    `keyframe`: a conditioning image, whose tokens are added after those of the video; None for no image.
    `device`: the device of the track's tensors.

    Raises ValueError if placed latents reach beyond the window's end.
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


def audio_track(clean: Tensor, is_context: Tensor, strength: float, bounds: Tensor) -> Track:
    """Returns the audio track of a window: its audio tokens, with their conditioning.

    `clean`: tokens [1, n, C], the context's sound where `is_context` is True. Other tokens' values are not used.
    `is_context`: bool [n], True for the tokens of the context's sound. The other tokens are generated.
    `strength`: how strongly the tokens of the context's sound are kept, 0 (not at all) to 1 (unchanged).
    `bounds`: start and end of each token in seconds, [1, 1, n, 2].
    """
    mask = torch.where(is_context.to(clean.device), 1 - strength, 1.0)[None, :, None]
    return Track(clean, mask, bounds.to(clean.device))


def draw_noise(tracks: Mapping[Stream, Track], noise: Noise, name: str) -> dict[Stream, Tensor]:
    """Returns noise [1, n, C] for the n tokens of each modality of a window.

    `noise`: a function of a name and a shape that returns noise. Equal names give equal noise.
    `name`: says what the noise is for, such as `init`. `noise` is called with the names `video.<name>` and
        `audio.<name>`.
    """
    return {stream: noise(f"{stream}.{name}", tuple(track.clean.shape)) for stream, track in tracks.items()}
