"""The sampling of LTX-2. Read from the bottom: a window pass by pass, a pass step by step."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from longtake.families.ltx2.conditioning import WindowConditioning
from longtake.families.ltx2.guidance import Guide, predict
from longtake.families.ltx2.tracks import Track, draw_noise
from longtake.models.audiovisual import PositionedTracks, Stream, Tokens
from longtake.sampling.caching import Predict, with_step_cache
from longtake.sampling.levels import Acceleration
from longtake.sampling.noise import Noise
from longtake.sampling.positions import to_tokens
from longtake.sampling.vae import Statistics, upsample
from longtake.sampling.windows import OnStep, ignore_step


@dataclass(frozen=True)
class Sampler:
    """The way down the noise levels `sigmas` [steps + 1], which fall from at most 1 to 0.

    `gamma` (0 = off) amplifies the change of velocity since the last step: gradient estimation, Permenter and Yuan
    2024. `eta` (0 = off) is the share by which a step overshoots its level before fresh noise brings it back.
    """

    sigmas: Tensor
    gamma: float = 0.0
    eta: float = 0.0


def stepped(tokens: Tensor, velocity: Tensor, sigma: float, lower: float) -> Tensor:
    """Returns the tokens after an Euler step along the velocity from noise level `sigma` to `lower`."""
    return tokens + (lower - sigma) * velocity


def renoised(tokens: Tensor, velocity: Tensor, noise: Tensor, sigma: float, lower: float, eta: float) -> Tensor:
    """Returns tokens at noise level `lower` after part of their noise is replaced by fresh `noise`.

    They step on to the level lower (1 + (lower / sigma - 1) eta), and the fresh noise brings them back to `lower`.
    Source: the ancestral Euler step of Karras et al. 2022, for flow matching.
    """
    down = lower * (1 + (lower / sigma - 1) * eta)
    scale = (1 - lower) / (1 - down)
    fresh = math.sqrt(max(0.0, lower**2 - (down * scale) ** 2))
    return stepped(tokens, velocity, lower, down) * scale + noise * fresh


def trajectory(
    tracks: Mapping[Stream, Track],
    sampler: Sampler,
    predict_clean: Predict[Stream],
    noise: Noise,
    init: Tokens | None = None,
    on_step: OnStep = ignore_step,
) -> Iterator[dict[Stream, Tensor]]:
    """Yields the tokens [1, n, C] of each modality after every step.

    With `init` tokens [1, n - extra, C] the pass refines those: it starts from them at the first noise level. Noise is
    drawn as `video.init`, `audio.init`, and, where `eta` needs it, as `video.step.000`, `audio.step.000` and so on.
    """
    sigmas = sampler.sigmas
    level = 1.0 if init is None else float(sigmas[0])
    tokens = {
        stream: tracks[stream].start(start, init[stream] if init else None, level)
        for stream, start in draw_noise(tracks, noise, "init").items()
    }
    last: dict[Stream, Tensor] = {}
    for step, (sigma, lower) in enumerate(zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True)):
        on_step(step, len(sigmas) - 1)
        clean = predict_clean(tokens, step, sigma)
        if lower == 0:
            yield dict(clean)
            return
        tokens = dict(tokens)
        fresh = draw_noise(tracks, noise, f"step.{step:03d}") if sampler.eta else {}
        for stream, track in tracks.items():
            velocity = (tokens[stream] - clean[stream]) / sigma
            followed = velocity
            if sampler.gamma and stream in last:
                followed = torch.lerp(last[stream], velocity, sampler.gamma)
            tokens[stream] = stepped(tokens[stream], followed, sigma, lower)
            if sampler.eta:
                tokens[stream] = renoised(tokens[stream], followed, fresh[stream], sigma, lower, sampler.eta)
                tokens[stream] = torch.lerp(track.clean, tokens[stream], track.mask)
                # Gradient estimation must not see the fresh noise as a change of the prediction.
                velocity = (tokens[stream] - clean[stream]) / lower
            last[stream] = velocity
        yield tokens


@dataclass(frozen=True)
class PassSetup:
    """One pass over a window: the guided network, its sampler, and which of its steps extrapolate."""

    guide: Guide
    sampler: Sampler
    acceleration: Acceleration = "none"


def sample(
    setup: PassSetup,
    tracks: Mapping[Stream, Track],
    noise: Noise,
    init: Tokens | None = None,
    on_step: OnStep = ignore_step,
) -> dict[Stream, Tensor]:
    """Returns the tokens [1, n, C] of each modality after one pass; see `trajectory` for `init` and the noise."""
    positioned = PositionedTracks.of(setup.guide.transformer, tracks)

    def predict_clean(tokens: Tokens, step: int, sigma: float) -> dict[Stream, Tensor]:
        return predict(setup.guide, tracks, positioned, tokens, sigma)

    sampler = setup.sampler
    cached = with_step_cache(predict_clean, sampler.sigmas, setup.acceleration)
    return deque(trajectory(tracks, sampler, cached, noise, init, on_step), maxlen=1).pop()


@dataclass(frozen=True)
class SampledWindow:
    """A window's normalised video latents [1, C, F, H, W] and audio tokens [1, T, C] (None without sound)."""

    video: Tensor
    audio: Tensor | None

    def to_tensors(self) -> dict[str, Tensor]:
        """Returns both under the names that they are saved by."""
        return {"video": self.video} | ({} if self.audio is None else {"audio": self.audio})


@dataclass(frozen=True)
class Setup:
    """The set-up of sampling, the same for every window: its one or two passes, and the latent upsampler of the second.

    `statistics` are those of the video VAE's latents. `set_pass(n)` is called before pass n (from 0); it gives the
    adapters their strengths in that pass.
    """

    passes: Sequence[PassSetup]
    upsampler: Any | None
    statistics: Statistics
    set_pass: Callable[[int], None] = lambda number: None


def sample_window(
    setup: Setup, conditioning: WindowConditioning, noise: Callable[[int], Noise], on_step: OnStep = ignore_step
) -> SampledWindow:
    """Samples one window in every pass; `noise(n)` is the noise of pass n.

    The second pass refines the first's video latents, upsampled to twice the height and width. It also sees the first
    pass's audio, noised like the video, but only refines the video: the first pass's audio is the result.
    """
    setup.set_pass(0)
    first = sample(setup.passes[0], conditioning.tracks(0), noise(0), on_step=on_step)
    video = conditioning.latent(0, first["video"])
    for number, pass_ in enumerate(setup.passes[1:], 1):
        setup.set_pass(number)
        larger = upsample(setup.upsampler, video, setup.statistics)
        init = {**first, "video": to_tokens(larger)}
        refined = sample(pass_, conditioning.tracks(number), noise(number), init, on_step)
        video = conditioning.latent(number, refined["video"])
    return SampledWindow(video, first.get("audio"))
