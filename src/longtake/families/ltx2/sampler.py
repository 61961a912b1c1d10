"""The loop of LTX-2's steps: from noise to tokens, by Euler, gradient estimation or ancestral renoise."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from longtake.families.ltx2.tracks import Track, drawn
from longtake.models.audiovisual import Stream, Tokens
from longtake.sampling.caching import Predict
from longtake.sampling.noise import Noise
from longtake.sampling.windows import OnStep


@dataclass(frozen=True)
class Sampler:
    """The sampler of one pass: it goes down the noise levels `sigmas` [steps + 1], which end at 0.

    `gamma` (0 = off) amplifies the change of velocity since the last step: gradient estimation, Permenter and Yuan
    2024. `eta` (0 = off) is the share of noise that a step takes away further and puts back.
    """

    sigmas: Tensor
    gamma: float = 0.0
    eta: float = 0.0


def sample(
    tracks: Mapping[Stream, Track],
    sampler: Sampler,
    predict: Predict[Stream],
    noise: Noise,
    *,
    init: Mapping[Stream, Tensor] | None = None,
    on_step: OnStep = lambda step, steps: None,
    on_state: Callable[[Tokens], None] = lambda tokens: None,
) -> dict[Stream, Tensor]:
    """Tokens [1, n, C] of each modality after all steps.

    With `init` tokens the pass refines these: it starts from them with the first level's share of noise. Noise is
    asked for as `video.init`, `audio.init`, then per step `video.step.000` and so on where `eta` needs it.
    """
    sigmas = sampler.sigmas
    scale = 1.0 if init is None else float(sigmas[0])
    tokens = {
        stream: tracks[stream].start(start, init[stream] if init else None, scale)
        for stream, start in drawn(tracks, noise, "init").items()
    }
    last: dict[Stream, Tensor] = {}
    steps = len(sigmas) - 1
    for step, (sigma, lower) in enumerate(zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True)):
        on_step(step, steps)
        clean = predict(tokens, step, sigma)
        if lower == 0:
            tokens = dict(clean)
        else:
            fresh = drawn(tracks, noise, f"step.{step:03d}") if sampler.eta else {}
            for stream, track in tracks.items():
                velocity = (tokens[stream] - clean[stream]) / sigma
                followed = velocity
                if sampler.gamma and stream in last:
                    followed = torch.lerp(last[stream], velocity, sampler.gamma)
                last[stream] = velocity
                tokens[stream] = stepped(tokens[stream], followed, sigma, lower)
                if sampler.eta:
                    tokens[stream] = renoised(tokens[stream], followed, fresh[stream], sigma, lower, sampler.eta)
                    tokens[stream] = torch.lerp(track.clean, tokens[stream], track.mask)
                    # Else fresh noise would count as a change of the model's mind.
                    last[stream] = (tokens[stream] - clean[stream]) / lower
        on_state(dict(tokens))
    return tokens


def stepped(tokens: Tensor, velocity: Tensor, sigma: float, lower: float) -> Tensor:
    """Euler: along the velocity from noise level `sigma` to `lower`."""
    return tokens + (lower - sigma) * velocity


def renoised(tokens: Tensor, velocity: Tensor, noise: Tensor, sigma: float, lower: float, eta: float) -> Tensor:
    """Tokens at level `lower` taken further down, to lower (1 + (lower / sigma - 1) eta), and brought back up by fresh
    noise. Source: the ancestral Euler step of Karras et al. 2022, for flow matching."""
    down = lower * (1 + (lower / sigma - 1) * eta)
    kept = (1 - lower) / (1 - down)
    fresh = math.sqrt(max(0.0, lower**2 - (down * kept) ** 2))
    return stepped(tokens, velocity, lower, down) * kept + noise * fresh
