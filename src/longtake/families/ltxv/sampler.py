"""The sampling of LTX-Video 0.9.x. Read from the bottom: a video window by window, a window pass by pass, a pass step
by step."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from longtake.families.ltxv.colour import adain
from longtake.families.ltxv.conditioning import Item, TokenSequence, place
from longtake.families.ltxv.fuse import fuse
from longtake.families.ltxv.guidance import Guide, guided_velocity
from longtake.families.ltxv.plan import Window as LatentSpan
from longtake.plans import Size
from longtake.sampling.caching import along
from longtake.sampling.levels import Acceleration, evaluates_model
from longtake.sampling.noise import Noise
from longtake.sampling.positions import Grid, to_latent
from longtake.sampling.vae import Statistics, upsample
from longtake.sampling.windows import Loop, OnStep, Tensors, Window, sample_windows

CONDITIONING_NOISE = 0.15
"""The share of t^2 noise that the published models expect on given tokens."""

SLACK = 1e-6
"""Noise levels nearer than this are the same."""


@dataclass(frozen=True)
class PassSetup:
    """The set-up of one pass over a window: the guided network, the noise `levels` [n] to evaluate it at (falling),
    how latents lie in the video, the `canvas` (width, height), which steps extrapolate, the noise on given tokens."""

    guide: Guide
    levels: Tensor
    grid: Grid
    canvas: Size
    acceleration: Acceleration = "none"
    conditioning_noise: float = CONDITIONING_NOISE


def denoise(
    setup: PassSetup,
    sequence: TokenSequence,
    noise: Noise,
    *,
    on_step: OnStep = lambda step, steps: None,
    on_state: Callable[[Tensor], None] = lambda tokens: None,
) -> Tensor:
    """The video's tokens [1, n, C] after all steps, extra tokens left out.

    At each level t (the last step goes to 0): tokens of strength 1 are set to their start plus conditioning_noise *
    noise * t^2; a token's own time is min(t, 1 - strength); free tokens, and soft ones from t < 1 - strength on, go
    down to the next level by their velocity, which accelerated steps extrapolate from the steps before. `on_state` is
    called with the sequence after each step. Source: LTX-Video's pipeline.
    """
    start, mask, levels = sequence.tokens, sequence.mask, setup.levels
    tokens, hard = start, (mask > 1 - SLACK)[..., None]
    known: list[tuple[float, Tensor]] = []
    ends = torch.cat([levels[1:], levels.new_zeros(1)])
    for step, (level, end) in enumerate(zip(levels.tolist(), ends.tolist(), strict=True)):
        on_step(step, len(levels))
        if setup.conditioning_noise and bool(hard.any()):
            disturbance = noise(f"step.{step:03d}", tuple(tokens.shape)).to(tokens.dtype)
            tokens = torch.where(hard, start + setup.conditioning_noise * level**2 * disturbance, tokens)
        time = (1 - mask).clamp(max=level)
        if evaluates_model(step, len(levels), setup.acceleration):
            speed = guided_velocity(setup.guide, tokens, time, sequence.coords, level)
            known = [*known[-1:], (level, speed)]
        else:
            speed = along(known, level)
        moves = (level - SLACK < 1 - mask)[..., None]
        tokens = torch.where(moves, tokens - (time - end)[..., None] * speed, tokens)
        on_state(tokens)
    return tokens[:, sequence.extra :]


def sample(
    setup: PassSetup,
    shape: tuple[int, ...],
    items: Sequence[Item],
    noise: Noise,
    *,
    init: Tensor | None = None,
    on_step: OnStep = lambda step, steps: None,
    on_state: Callable[[Tensor], None] = lambda tokens: None,
) -> Tensor:
    """One pass over one window: normalised latents of `shape` = [1, C, F, H, W].

    `items` are given clips. With `init` the pass refines these latents: it starts from them with the first level's
    share of noise.
    """
    sequence = place(items, shape, setup.grid, noise, init=init, level=float(setup.levels[0]))
    return to_latent(denoise(setup, sequence, noise, on_step=on_step, on_state=on_state), shape)


@dataclass(frozen=True)
class Video:
    """The video's latents after some windows, for each pass: `latents` fused from all of them, and those of the `first`
    window by itself. All that the next window needs."""

    latents: tuple[Tensor, ...]
    first: tuple[Tensor, ...]

    def to_tensors(self) -> dict[str, Tensor]:
        """Both by name, as they are saved."""
        named = {"video": self.latents, "first": self.first}
        return {f"{name}.{number}": one for name, all in named.items() for number, one in enumerate(all)}

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor]) -> "Video":
        passes = range(len(tensors) // 2)
        return cls(*(tuple(tensors[f"{name}.{number}"] for number in passes) for name in ("video", "first")))


@dataclass(frozen=True)
class Setup:
    """The set-up of sampling a video: its passes, its windows in latent frames, their overlap, and the upsampler of the
    second pass."""

    passes: tuple[PassSetup, ...]
    windows: tuple[LatentSpan, ...]
    overlap_latents: int
    overlap_strength: float
    temporal_adain_factor: float
    upsampler: Any | None
    statistics: Statistics
    set_pass: Callable[[int], None] = lambda number: None

    def shape(self, window: LatentSpan, pass_: PassSetup) -> tuple[int, int, int, int, int]:
        """[1, C, F, H, W] of a window's latents in a pass."""
        width, height = (side // pass_.grid.spatial for side in pass_.canvas)
        return 1, self.statistics.channels, window.stop - window.start, height, width


def sample_window(setup: Setup, context: Sequence[Sequence[Item]], video: Video | None, window: Window) -> Video:
    """Samples the next window in every pass and joins it to the video so far.

    The first window is conditioned on `context`, the given items at each pass's size; a later one on the video's last
    `overlap_latents`. A second pass refines the first pass's latents, upsampled and given back their colours by AdaIN.
    """
    span = setup.windows[window.number]
    made: list[Tensor] = []
    for number, pass_ in enumerate(setup.passes):
        setup.set_pass(number)
        init = adain(upsample(setup.upsampler, made[-1], setup.statistics), made[-1]) if made else None
        items = context[number] if video is None else [_overlap(setup, video.latents[number])]
        shape = setup.shape(span, pass_)
        made.append(sample(pass_, shape, items, window.noise(number), init=init, on_step=window.on_step))
    if video is None:
        return Video(tuple(made), tuple(made))
    fused = (
        fuse(before, latents, first, setup.overlap_latents, setup.temporal_adain_factor)
        for before, latents, first in zip(video.latents, made, video.first, strict=True)
    )
    return Video(tuple(fused), video.first)


def _overlap(setup: Setup, latents: Tensor) -> Item:
    return Item(latents[:, :, -setup.overlap_latents :], 0, setup.overlap_strength)


def sample_video(setup: Setup, context: Sequence[Sequence[Item]], loop: Loop) -> Iterator[Video]:
    """The video after each of its windows."""

    def sampled(window: Window, video: Video | None) -> Tensors:
        return sample_window(setup, context, video, window).to_tensors()

    def after(window: Window, video: Video | None, tensors: Tensors) -> Generator[Video, None, Video | None]:
        longer = Video.of_tensors(tensors)
        yield longer
        return longer

    first: Video | None = None
    return sample_windows(loop, first, sampled, after)
