"""The recipe of LTX-Video 0.9.x: a context and a plan become the latents of a longer video, window by window.

Read from the bottom: `extend` is the whole way, `sample_windows` a long take, `sample` one pass over one window.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from longtake.clip import OnProgress, Progress, ignore_progress
from longtake.extend.frames import (
    Latents,
    Statistics,
    decode_frames,
    decoder_noise,
    encode_clip,
    roughen,
    to_pixels,
    upsample,
)
from longtake.extend.kept import NOTHING_KEPT, Kept
from longtake.models.ltxv import LTXV
from longtake.plan import Acceleration, LTXVPlan, Pass, Window
from longtake.profiles import Guidance
from longtake.sampling.colour import adain, tone_map
from longtake.sampling.conditioning import Item, place
from longtake.sampling.guidance import Text
from longtake.sampling.noise import Noise, seeded
from longtake.sampling.positions import Grid, to_latent
from longtake.sampling.schedules import noise_levels
from longtake.sampling.steps import CONDITIONING_NOISE, OnStep, denoise
from longtake.sampling.windows import fuse

FRAMES_AT_ONCE = 8
"""Decoded frames are brought to the output's size so many at a time, to bound memory."""


def sample(
    transformer: nn.Module,
    shape: tuple[int, ...],
    grid: Grid,
    items: Sequence[Item],
    positive: Text,
    negative: Text | None,
    levels: Tensor,
    guidance: Guidance,
    noise: Noise,
    *,
    init: Tensor | None = None,
    conditioning_noise: float = CONDITIONING_NOISE,
    acceleration: Acceleration = "none",
    on_step: OnStep = lambda step, steps: None,
    on_state: Callable[[Tensor], None] = lambda tokens: None,
) -> Tensor:
    """One pass over one window: normalised latents of `shape` = [1, C, F, H, W].

    `items` are given clips, `levels` the noise levels (`noise_levels`). With `init` the pass refines these latents:
    it starts from them with the first level's share of noise.
    """
    sequence = place(items, shape, grid, noise, init=init, level=float(levels[0]))
    tokens = denoise(
        transformer,
        sequence,
        levels,
        positive,
        negative,
        guidance,
        noise,
        conditioning_noise=conditioning_noise,
        acceleration=acceleration,
        on_step=on_step,
        on_state=on_state,
    )
    return to_latent(tokens, shape)


@dataclass(frozen=True)
class Taken:
    """A take so far, per pass: `video` fused from the windows done, and the `first` window's latents by themselves.

    All that the next window needs.
    """

    windows: int
    video: tuple[Tensor, ...]
    first: tuple[Tensor, ...]

    def to_tensors(self) -> dict[str, Tensor]:
        """Both by name, to be kept."""
        named = {"video": self.video, "first": self.first}
        return {f"{name}.{number}": one for name, all in named.items() for number, one in enumerate(all)}

    @classmethod
    def of_tensors(cls, windows: int, tensors: Mapping[str, Tensor]) -> "Taken":
        passes = range(len(tensors) // 2)
        return cls(windows, *(tuple(tensors[f"{name}.{number}"] for number in passes) for name in ("video", "first")))


@dataclass(frozen=True)
class Recipe:
    """How every window of a take is sampled: the networks, the plan's passes and windows, and the prompts."""

    transformer: nn.Module
    upsampler: nn.Module | None
    statistics: Statistics
    grid: Grid
    passes: tuple[Pass, ...]
    windows: tuple[Window, ...]
    overlap_latents: int
    overlap_strength: float
    temporal_adain_factor: float
    positive: Text
    negative: Text | None
    conditioning_noise: float = CONDITIONING_NOISE


def sample_window(
    recipe: Recipe,
    context: Sequence[Sequence[Item]],
    before: Taken | None,
    noise: Callable[[int, int], Noise],
    on_step: OnStep = lambda step, steps: None,
) -> Taken:
    """The next window of a take, in all passes.

    `context` holds the given items at each pass's size; they condition the first window, a later one starts on the
    last `overlap_latents` of the video so far. A second pass refines the first's latents, upsampled and given back
    the first's colours by AdaIN. `noise(pass, window)` is the noise to use.
    """
    index = before.windows if before else 0
    window = recipe.windows[index]
    made: list[Tensor] = []
    for number, pass_ in enumerate(recipe.passes):
        width, height = (side // recipe.grid.spatial for side in pass_.canvas)
        shape = (1, recipe.statistics.channels, window.stop - window.start, height, width)
        init = None
        if made:
            assert recipe.upsampler is not None
            init = adain(upsample(recipe.upsampler, made[-1], recipe.statistics), made[-1])
        items = (
            [Item(before.video[number][:, :, -recipe.overlap_latents :], 0, recipe.overlap_strength)]
            if before
            else context[number]
        )
        made.append(
            sample(
                recipe.transformer,
                shape,
                recipe.grid,
                items,
                recipe.positive,
                recipe.negative,
                noise_levels(pass_.steps, pass_.skip_initial, pass_.skip_final),
                pass_.guidance,
                noise(number, index),
                init=init,
                conditioning_noise=recipe.conditioning_noise,
                acceleration=pass_.acceleration,
                on_step=on_step,
            )
        )
    if before is None:
        return Taken(1, tuple(made), tuple(made))
    fused = (
        fuse(video, window_made, first, recipe.overlap_latents, recipe.temporal_adain_factor)
        for video, window_made, first in zip(before.video, made, before.first, strict=True)
    )
    return Taken(index + 1, tuple(fused), before.first)


def sample_windows(
    recipe: Recipe,
    context: Sequence[Sequence[Item]],
    noise: Callable[[int, int], Noise],
    *,
    kept: Kept = NOTHING_KEPT,
    on_progress: OnProgress = ignore_progress,
) -> Iterator[Taken]:
    """The take after each of its windows, of which those that are kept are not sampled again."""
    total = len(recipe.windows)
    before: Taken | None = None
    for number in range(total):

        def on_step(step: int, steps: int, window: int = number + 1) -> None:
            on_progress(Progress("sampling", step, steps, window, total))

        def make(before: Taken | None = before, on_step: OnStep = on_step) -> dict[str, Tensor]:
            return sample_window(recipe, context, before, noise, on_step).to_tensors()

        before = Taken.of_tensors(number + 1, kept.tensors(f"window-{number:03d}", make, recipe.statistics.mean.device))
        yield before


def noise_of(seed: int, windows: tuple[Window, ...], device: torch.device) -> Callable[[int, int], Noise]:
    """Each pass's and window's own noise: the seed moved on by the window's start, a far step per pass."""
    return lambda number, window: seeded(seed + windows[window].start + number * 1_000_003, device)


def context_items(models: LTXV, plan: LTXVPlan, frames: NDArray[np.uint8]) -> list[list[Item]]:
    """The context [T, H, W, 3] as items at each pass's size: in place at the start, or beside it as a guide."""
    if plan.strength == 0:
        return [[] for _ in plan.passes]
    guide = plan.guide != "rgb"
    return [
        [Item(encode_clip(models.vae, frames, pass_.canvas, models.device), 0, plan.strength, guide)]
        for pass_ in plan.passes
    ]


def extend(
    models: LTXV,
    plan: LTXVPlan,
    frames: NDArray[np.uint8],
    positive: Text,
    negative: Text | None,
    *,
    kept: Kept = NOTHING_KEPT,
    on_progress: OnProgress = ignore_progress,
) -> Iterator[Tensor]:
    """The made frames, in chunks [t, 3, H, W] of float32 in [0, 1] at the output's size, as soon as they are final.

    `frames` [context_frames, H, W, 3] are what conditions the take: the source's last frames before the joint.
    Where the source's own pixels are shown, the first chunk begins with the model's rendition of the last context
    frame, which the output leaves out: it tells how the model renders what the source shows. Else all of the
    context's rendition comes first. Windows are `kept`.
    """
    card, device = models.card, models.device
    statistics = Statistics.of(models.vae, device)
    recipe = Recipe(
        transformer=models.transformer,
        upsampler=models.upsampler,
        statistics=statistics,
        grid=Grid(card.temporal_compression, card.spatial_compression, plan.rate),
        passes=plan.passes,
        windows=plan.windows,
        overlap_latents=plan.overlap_latents,
        overlap_strength=plan.overlap_strength,
        temporal_adain_factor=plan.temporal_adain_factor,
        positive=positive,
        negative=negative,
        conditioning_noise=card.conditioning_noise_scale,
    )
    on_progress(Progress("context", 0, 1))
    context = context_items(models, plan, frames)

    first_frame = plan.context_frames - 1 if plan.keeps_source else 0
    last_frame = plan.new_frames + (plan.context_frames if plan.guide == "rgb" else 0)
    decoder_wants_noise = models.vae.config.timestep_conditioning and card.decode_noise_scale > 0
    noise = seeded(plan.seed - 1, device)

    def final_latents() -> Iterator[Latents]:
        done = 0
        for taken in sample_windows(
            recipe, context, noise_of(plan.seed, plan.windows, device), kept=kept, on_progress=on_progress
        ):
            last = taken.windows == len(plan.windows)
            stop = taken.video[-1].shape[2] - (0 if last else plan.overlap_latents - 1)
            latent = taken.video[-1][:, :, done:stop]
            if decoder_wants_noise:
                latent = roughen(latent, decoder_noise(noise, done, latent), card.decode_noise_scale)
            yield Latents(statistics.unnormalise(tone_map(latent, plan.tone_map_compression_ratio)), last)
            done = stop

    for chunk in decode_frames(
        models.vae,
        final_latents(),
        first_frame,
        last_frame,
        timestep=card.decode_timestep,
        on_progress=on_progress,
    ):
        for start in range(0, len(chunk), FRAMES_AT_ONCE):
            yield to_pixels(chunk[start : start + FRAMES_AT_ONCE], (plan.width, plan.height))
