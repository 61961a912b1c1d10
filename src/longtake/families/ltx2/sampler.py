"""Samples the video and audio tokens of LTX-2 in one pass or two, from noise to clean tokens.

Read from the bottom: `sample_window` runs the passes, and `trajectory` runs the steps of a pass.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from longtake.families.ltx2.conditioning import WindowConditioning
from longtake.families.ltx2.guidance import Guide, predict
from longtake.families.ltx2.tracks import Track, draw_noise
from longtake.models.audiovisual import Stream, Tokens
from longtake.sampling.caching import extrapolated
from longtake.sampling.levels import Acceleration, evaluates_model
from longtake.sampling.noise import Noise
from longtake.sampling.positions import to_tokens
from longtake.sampling.vae import Statistics, upsample
from longtake.sampling.windows import OnEstimate, OnStep, Tensors, ignore_estimates, ignore_step, ignore_steps


@dataclass(frozen=True)
class Sampler:
    """The settings of the steps of a pass.

    `sigmas`: the noise levels [steps + 1] in falling order, from at most 1 to 0.
    `gamma`: the strength of gradient estimation (Permenter and Yuan 2024), up to 10. 0 turns it off: each step follows
        its own velocity. Above 0, each step after the first follows the velocity last + gamma * (own - last), where
        `own` is its own velocity and `last` is that of the step before. So 1 has the same effect as 0.
    `eta`: the share of ancestral noise, 0 (off) to 1. A step first goes below the noise level at which it ends, and
        then fresh noise is added up to that level. The larger `eta`, the more noise is fresh; see `renoised`.
    """

    sigmas: Tensor
    gamma: float = 0.0
    eta: float = 0.0


def stepped(tokens: Tensor, velocity: Tensor, sigma: float, lower: float) -> Tensor:
    """Returns the tokens after an Euler step along `velocity` from noise level `sigma` to `lower`."""
    return tokens + (lower - sigma) * velocity


def renoised(tokens: Tensor, velocity: Tensor, noise: Tensor, sigma: float, lower: float, eta: float) -> Tensor:
    """Returns the tokens with a part of their noise replaced by fresh noise. Their noise level stays `lower`.

    `tokens`: the tokens after a step from noise level `sigma` to `lower`.
    `velocity`: the velocity of that step.
    `noise`: the fresh noise.
    `eta`: how much noise is replaced, 0 (none) to 1.

    1. The tokens go further along `velocity`, down to the level lower * (1 + (lower / sigma - 1) * eta).
    2. They are scaled, and fresh noise is added, so that their level is `lower` again.

    Source: the ancestral Euler step of Karras et al. 2022, for flow matching.
    """
    down = lower * (1 + (lower / sigma - 1) * eta)
    scale = (1 - lower) / (1 - down)
    fresh = math.sqrt(max(0.0, lower**2 - (down * scale) ** 2))
    return stepped(tokens, velocity, lower, down) * scale + noise * fresh


PredictClean = Callable[[Tokens, int, float], Tokens]
"""A function of (noisy tokens, the step's number from 0, noise level) that predicts the clean tokens."""


def trajectory(
    tracks: Mapping[Stream, Track],
    sampler: Sampler,
    predict_clean: PredictClean,
    noise: Noise,
    init: Tokens | None = None,
    on_step: OnStep = ignore_step,
) -> Iterator[dict[Stream, Tensor]]:
    """Yields the tokens [1, n, C] of each modality after every step of a pass. After the last step they are clean.

    `tracks`: the conditioning, the mask and the positions of the tokens, for each modality.
    `sampler`: the noise levels and the other settings of the steps.
    `predict_clean`: predicts the clean tokens in each step.
    `noise`: a function of (name, shape) that returns noise. Equal names give equal noise. At the start it is called
        with the names `video.init` and `audio.init`. If `sampler.eta` is not 0, each step except the last calls it
        twice more, with the names `video.step.000`, `audio.step.000` and so on. Without sound there are no calls for
        audio.
    `init`: the tokens of each modality that the pass refines, [1, n - extra, C]: it starts from them, noised to the
        first noise level. The tokens of the end image, which are `Track.extra` additional tokens, are not in `init`. If
        `init` is None, the pass starts from noise alone.
    `on_step`: a callback before each step. It gets the step's number (from 0) and the number of steps.
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


OnClean = Callable[[int, int, Tokens], None]
"""A callback in each step, after the model has predicted. Its arguments are the step's number (from 0), the number of
steps, and the predicted clean tokens [1, n, C] of each modality.
"""


def ignore_clean(step: int, steps: int, clean: Tokens) -> None:
    """Does nothing; the default callback for predicted tokens."""


@dataclass(frozen=True)
class PassSetup:
    """The set-up of one pass over a window.

    `guide`: the transformer with its prompts and guidance scales, which predicts the clean tokens.
    `sampler`: the settings of the steps.
    `acceleration`: how many steps extrapolate earlier predictions instead of evaluating the model: "none" of them, or
        more and more with "regular", "high" and "full".
    """

    guide: Guide
    sampler: Sampler
    acceleration: Acceleration = "none"


def sample(
    setup: PassSetup,
    tracks: Mapping[Stream, Track],
    noise: Noise,
    init: Tokens | None = None,
    on_step: OnStep = ignore_step,
    on_clean: OnClean = ignore_clean,
) -> dict[Stream, Tensor]:
    """Returns the clean tokens [1, n, C] of each modality after one pass: a run through all sampling steps.

    `setup`: the transformer with its guidance, and the settings of the steps.
    `tracks`: the conditioning, the mask and the positions of the tokens, for each modality.
    `noise`: a function of (name, shape) that returns noise. Equal names give equal noise. `trajectory` lists the names.
    `init`: the tokens of each modality that the pass refines, [1, n - extra, C]: it starts from them with noise added.
        The tokens of the end image, which are `Track.extra` additional tokens, are not in `init`. If `init` is None,
        the pass starts from noise alone.
    `on_step`: a callback before each step. It gets the step's number (from 0) and the number of steps.
    `on_clean`: a callback in each step, after the model has predicted. It gets the step's number, the number of steps,
        and the predicted clean tokens of each modality.
    """
    sampler, positioned = setup.sampler, setup.guide.positioned(tracks)
    steps = len(sampler.sigmas) - 1
    known: dict[Stream, list[tuple[float, Tensor]]] = {stream: [] for stream in tracks}

    def predict_clean(tokens: Tokens, step: int, sigma: float) -> Tokens:
        if evaluates_model(step, steps, setup.acceleration):
            clean = predict(setup.guide, tracks, positioned, tokens, sigma)
            for stream, prediction in clean.items():
                known[stream] = [*known[stream][-1:], (sigma, prediction)]
        else:
            clean = {stream: extrapolated(known[stream], sigma) for stream in tracks}
        on_clean(step, steps, clean)
        return clean

    return deque(trajectory(tracks, sampler, predict_clean, noise, init, on_step), maxlen=1).pop()


@dataclass(frozen=True)
class Setup:
    """The set-up with which all windows of a plan are sampled.

    `passes`: the set-ups of one or two passes.
    `upsampler`: the model that doubles the height and width of the video latents for a second pass. It may be None if
        there is one pass.
    `statistics`: the mean and standard deviation of the video VAE's latents.
    `set_pass`: a function that sets the LoRAs' strengths for a pass. It is called as `set_pass(n)` before pass n (from
        0), and as `set_pass(None)` when nothing more is sampled.
    """

    passes: Sequence[PassSetup]
    upsampler: Any | None
    statistics: Statistics
    set_pass: Callable[[int | None], None] = lambda number: None


def sample_window(
    setup: Setup,
    conditioning: WindowConditioning,
    noise: Callable[[int], Noise],
    on_step: Callable[[int], OnStep] = ignore_steps,
    on_estimate: Callable[[int], OnEstimate] = ignore_estimates,
) -> Tensors:
    """Samples one window in one pass or two. Returns its normalised video latents [1, C, F, H, W] as `video` and, if it
    has sound, its normalised audio tokens [1, T, C] as `audio`.

    `setup`: the passes, and the model that doubles the size of the latents between them.
    `conditioning`: the window's tracks in each pass. A track has the conditioning, the mask and the positions of the
        tokens of one modality.
    `noise`: a function of a pass's number (from 0). It returns the function that draws the noise of that pass.
    `on_step`: a function of a pass's number (from 0). It returns the callback before each step of that pass.
    `on_estimate`: a function of a pass's number (from 0). It returns the callback for estimates of the clean video
        latents in that pass.

    - The first pass makes the video latents and the audio.
    - The second pass, if there is one, refines the video latents at twice the height and width. It starts from the
      first pass's video and audio with noise added. The audio that it predicts is discarded.
    - So the returned audio is always that of the first pass.
    """

    def on_clean(number: int) -> OnClean:
        estimated = on_estimate(number)
        return lambda step, steps, clean: estimated(step, steps, partial(conditioning.latent, number, clean["video"]))

    setup.set_pass(0)
    first = sample(setup.passes[0], conditioning.tracks(0), noise(0), on_step=on_step(0), on_clean=on_clean(0))
    video = conditioning.latent(0, first["video"])
    for number, pass_ in enumerate(setup.passes[1:], 1):
        larger = upsample(setup.upsampler, video, setup.statistics)
        setup.set_pass(number)
        init = {**first, "video": to_tokens(larger)}
        refined = sample(pass_, conditioning.tracks(number), noise(number), init, on_step(number), on_clean(number))
        video = conditioning.latent(number, refined["video"])
    return {"video": video} | ({"audio": first["audio"]} if "audio" in first else {})
