"""The sampling of LTX-Video 0.9.x. Read from the bottom: a video window by window, a window pass by pass, a pass step
by step."""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from longtake.families.ltxv.colour import adain
from longtake.families.ltxv.conditioning import ConditioningItem, TokenSequence, place
from longtake.families.ltxv.frame_counts import Window
from longtake.families.ltxv.fuse import fuse
from longtake.families.ltxv.guidance import Guide, guided_velocity
from longtake.plans import Size
from longtake.sampling.caching import extrapolated
from longtake.sampling.levels import Acceleration, evaluates_model
from longtake.sampling.noise import Noise
from longtake.sampling.positions import Grid, to_latent
from longtake.sampling.vae import Statistics, upsample
from longtake.sampling.windows import Loop, OnStep, Tensors, WindowRun, ignore_step, sample_windows

CONDITIONING_NOISE = 0.15
"""The noise on held tokens at noise level 1 that the published models expect; it shrinks with the level's square."""

EPSILON = 1e-6
"""Noise levels that differ by less count as equal."""


@dataclass(frozen=True)
class PassSetup:
    """The set-up of one pass over a window.

    `levels` [n]: the noise levels at which the guided network is evaluated, falling; the last step goes from the last
    level to 0. `grid`: where latents are in the video. `canvas`: (width, height) in pixels. `acceleration`: which steps
    extrapolate. `conditioning_noise`: see CONDITIONING_NOISE.
    """

    guide: Guide
    levels: Tensor
    grid: Grid
    canvas: Size
    acceleration: Acceleration = "none"
    conditioning_noise: float = CONDITIONING_NOISE


def trajectory(
    setup: PassSetup, sequence: TokenSequence, noise: Noise, on_step: OnStep = ignore_step
) -> Iterator[Tensor]:
    """Yields all tokens [1, n, C] after every step, extra tokens included.

    At each level t, tokens of strength 1 are set to their start plus conditioning_noise * t^2 * noise. A token's own
    noise level is min(t, 1 - strength). Tokens that have noise to lose, from t < 1 - strength on, step to the next
    level by their velocity; accelerated steps extrapolate it. Noise is drawn as `step.000`, `step.001` and so on, in
    the tokens' shape. Source: LTX-Video's pipeline.
    """
    start, mask, levels = sequence.tokens, sequence.mask, setup.levels
    tokens, held = start, (mask > 1 - EPSILON)[..., None]
    known: list[tuple[float, Tensor]] = []
    ends = torch.cat([levels[1:], levels.new_zeros(1)])
    for step, (level, end) in enumerate(zip(levels.tolist(), ends.tolist(), strict=True)):
        on_step(step, len(levels))
        if setup.conditioning_noise and bool(held.any()):
            disturbance = noise(f"step.{step:03d}", tuple(tokens.shape)).to(tokens.dtype)
            tokens = torch.where(held, start + setup.conditioning_noise * level**2 * disturbance, tokens)
        time = (1 - mask).clamp(max=level)
        if evaluates_model(step, len(levels), setup.acceleration):
            velocity = guided_velocity(setup.guide, tokens, time, sequence.coords, level)
            known = [*known[-1:], (level, velocity)]
        else:
            velocity = extrapolated(known, level)
        moves = (level - EPSILON < 1 - mask)[..., None]
        tokens = torch.where(moves, tokens - (time - end)[..., None] * velocity, tokens)
        yield tokens


def denoise(setup: PassSetup, sequence: TokenSequence, noise: Noise, on_step: OnStep = ignore_step) -> Tensor:
    """Returns the video's tokens [1, n, C] after all steps of a pass, without the extra tokens."""
    tokens = deque(trajectory(setup, sequence, noise, on_step), maxlen=1).pop()
    return tokens[:, sequence.extra :]


def sample(
    setup: PassSetup,
    shape: tuple[int, ...],
    items: Sequence[ConditioningItem],
    noise: Noise,
    *,
    init: Tensor | None = None,
    on_step: OnStep = ignore_step,
) -> Tensor:
    """Returns the normalised latents of `shape` = [1, C, F, H, W] after one pass over one window.

    With `init` latents of that shape the pass refines those: it starts from them at the first noise level.
    """
    sequence = place(items, shape, setup.grid, noise, init=init, level=float(setup.levels[0]))
    return to_latent(denoise(setup, sequence, noise, on_step), shape)


@dataclass(frozen=True)
class Video:
    """The video's normalised latents after some windows, for each pass: all that the next window needs.

    `latents` are fused from all windows, and `first` are those of the first window alone; each [1, C, F, H, W].
    """

    latents: tuple[Tensor, ...]
    first: tuple[Tensor, ...]

    def to_tensors(self) -> dict[str, Tensor]:
        """Returns both under the names that they are saved by."""
        named = {"video": self.latents, "first": self.first}
        return {f"{name}.{number}": one for name, passes in named.items() for number, one in enumerate(passes)}

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor]) -> "Video":
        """Returns the video that `to_tensors` saved."""
        passes = range(len(tensors) // 2)
        return cls(*(tuple(tensors[f"{name}.{number}"] for number in passes) for name in ("video", "first")))


@dataclass(frozen=True)
class Setup:
    """The set-up of sampling a video.

    `windows` are in latent frames. A window after the first is conditioned on the `overlap_latents` latent frames that
    it shares with the one before, by `overlap_strength`. `upsampler` doubles the latents for the second pass.
    `statistics` are those of the VAE's latents. `set_pass(n)` is called before pass n (from 0); it gives the adapters
    their strengths in that pass.
    """

    passes: tuple[PassSetup, ...]
    windows: tuple[Window, ...]
    overlap_latents: int
    overlap_strength: float
    temporal_adain_factor: float
    upsampler: Any | None
    statistics: Statistics
    set_pass: Callable[[int], None] = lambda number: None

    def shape(self, window: Window, pass_: PassSetup) -> tuple[int, int, int, int, int]:
        """Returns the shape [1, C, F, H, W] of a window's latents in a pass."""
        width, height = (side // pass_.grid.spatial for side in pass_.canvas)
        return 1, self.statistics.channels, window.stop - window.start, height, width

    def overlap(self, latents: Tensor) -> ConditioningItem:
        """Returns the end of the video so far [1, C, F, H, W] as the conditioning of the next window."""
        return ConditioningItem(latents[:, :, -self.overlap_latents :], 0, self.overlap_strength)


Items = Sequence[ConditioningItem]


def sample_window(setup: Setup, context: Sequence[Items], video: Video | None, current: WindowRun) -> Video:
    """Samples the next window in every pass and returns the video so far, continued by it.

    The first window (`video` is None) is conditioned on `context`, the items of each pass; a later one on the video's
    last latents. A second pass refines the first pass's latents, upsampled and given their colours back by AdaIN.
    """
    window = setup.windows[current.number]
    sampled: list[Tensor] = []
    for number, pass_ in enumerate(setup.passes):
        setup.set_pass(number)
        init = adain(upsample(setup.upsampler, sampled[-1], setup.statistics), sampled[-1]) if sampled else None
        items = context[number] if video is None else [setup.overlap(video.latents[number])]
        shape = setup.shape(window, pass_)
        sampled.append(sample(pass_, shape, items, current.noise(number), init=init, on_step=current.on_step))
    if video is None:
        return Video(tuple(sampled), tuple(sampled))
    fused = (
        fuse(before, latents, first, setup.overlap_latents, setup.temporal_adain_factor)
        for before, latents, first in zip(video.latents, sampled, video.first, strict=True)
    )
    return Video(tuple(fused), video.first)


def sample_video(setup: Setup, context: Sequence[Items], loop: Loop) -> Iterator[Video]:
    """Yields the video after each of its windows; `context` has the conditioning items of each pass."""

    def sampled(current: WindowRun, video: Video | None) -> Tensors:
        return sample_window(setup, context, video, current).to_tensors()

    def after(current: WindowRun, video: Video | None, tensors: Tensors) -> Generator[Video, None, Video | None]:
        longer = Video.of_tensors(tensors)
        yield longer
        return longer

    start: Video | None = None
    return sample_windows(loop, start, sampled, after)
