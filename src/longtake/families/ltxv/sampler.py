"""Samples the latents of a video with LTX-Video 0.9.x: window by window, step by step.

Read from the bottom: `sample_video` runs the windows, `sample_window` the passes, and `trajectory` the steps of a pass.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from longtake.families.ltxv.colour import adain
from longtake.families.ltxv.conditioning import ConditioningItem, TokenSequence, place
from longtake.families.ltxv.frame_counts import Window
from longtake.families.ltxv.fuse import fuse
from longtake.families.ltxv.guidance import Guide, guided_velocity
from longtake.models.video_transformer import TokenLevels
from longtake.plans import Size
from longtake.sampling.caching import extrapolated
from longtake.sampling.levels import Acceleration, evaluates_model
from longtake.sampling.noise import Noise
from longtake.sampling.positions import Grid, to_latent
from longtake.sampling.vae import Statistics, upsample
from longtake.sampling.windows import (
    Loop,
    OnEstimate,
    OnStep,
    Tensors,
    WindowRun,
    ignore_estimate,
    ignore_step,
    sample_windows,
)

CONDITIONING_NOISE = 0.15
"""How much noise each step adds to the tokens of strength 1, which are kept and not denoised.

At noise level t (0..1) it is standard normal noise times this number times t squared, as the published models expect.
"""

EPSILON = 1e-6
"""Noise levels that differ by less than this are treated as equal."""


@dataclass(frozen=True)
class PassSetup:
    """The set-up of one pass over a window.

    `guide`: the transformer with its prompts and guidance scales, which predicts the velocities.
    `levels`: the noise levels at which the steps begin, one per step, in falling order. The last step ends at 0.
    `grid`: gives the positions of latents in time and space.
    `canvas`: the (width, height) in pixels at which the pass works.
    `acceleration`: how many steps extrapolate earlier predictions instead of evaluating the model: "none" of them, or
        more and more with "regular", "high" and "full".
    `conditioning_noise`: how much noise is added to tokens of strength 1, which otherwise stay unchanged: at noise
        level t it is standard normal noise times `conditioning_noise` * t^2. 0 adds none.
    """

    guide: Guide
    levels: Tensor
    grid: Grid
    canvas: Size
    acceleration: Acceleration = "none"
    conditioning_noise: float = CONDITIONING_NOISE


def trajectory(
    setup: PassSetup,
    sequence: TokenSequence,
    noise: Noise,
    on_step: OnStep = ignore_step,
    on_estimate: OnEstimate = ignore_estimate,
) -> Iterator[Tensor]:
    """Runs the steps of a pass (one run through the noise levels of a schedule). Yields the tokens of `sequence` [1, n,
    C] after each step, with its extra tokens.

    A step goes from one noise level t of the schedule to the next. The strength of a token, which is its value in
    `sequence.mask`, decides what the step does to it:
    - Strength 1: the token is not denoised. In each step it is its value in `sequence.tokens` plus new noise times
      `setup.conditioning_noise` * t^2; the noise of earlier steps is dropped.
    - Lower strength: the token starts at noise level 1 - strength. It stays unchanged while t is higher. After that,
      each step moves it along its velocity to the next level.

    The model predicts the velocity. At the steps that `setup.acceleration` skips, it is extrapolated from earlier
    predictions.

    `setup`: the transformer with its guidance, and the noise levels of the pass.
    `sequence`: the tokens before the first step.
    `noise`: a function of (name, shape) that returns noise. Equal names give equal noise. The draws are named
        `step.000`, `step.001` and so on.
    `on_step`: the callback before each step. It gets the step's number (from 0) and the number of steps.
    `on_estimate`: the callback for estimates of the clean tokens [1, n, C], which include the extra tokens.

    Source: LTX-Video's pipeline.
    """
    start, mask, levels = sequence.tokens, sequence.mask, setup.levels
    tokens, held = start, (mask > 1 - EPSILON)[..., None]
    strengths = TokenLevels.of(mask)  # once for all steps: tokens of equal strength have equal noise levels
    known: list[tuple[float, Tensor]] = []
    ends = torch.cat([levels[1:], levels.new_zeros(1)])
    is_disturbed = setup.conditioning_noise > 0 and bool(held.any())  # asked once, because a GPU must be waited for
    for step, (level, end) in enumerate(zip(levels.tolist(), ends.tolist(), strict=True)):
        on_step(step, len(levels))
        if is_disturbed:
            disturbance = noise(f"step.{step:03d}", tuple(tokens.shape)).to(tokens.dtype)
            tokens = torch.where(held, start + setup.conditioning_noise * level**2 * disturbance, tokens)
        time = (1 - mask).clamp(max=level)
        if evaluates_model(step, len(levels), setup.acceleration):
            own = replace(strengths, values=(1 - strengths.values).clamp(max=level))
            velocity = guided_velocity(setup.guide, tokens, own, sequence.coords, level)
            known = [*known[-1:], (level, velocity)]
        else:
            velocity = extrapolated(known, level)
        on_estimate(step, len(levels), partial(moved, tokens, time, velocity))
        moves = (level - EPSILON < 1 - mask)[..., None]
        tokens = torch.where(moves, moved(tokens, time - end, velocity), tokens)
        yield tokens


def moved(tokens: Tensor, time: Tensor, velocity: Tensor) -> Tensor:
    """Returns tokens [1, n, C] after they have moved along their velocity by `time` [1, n], which lowers their noise
    level by as much."""
    return tokens - time[..., None] * velocity


def sample(
    setup: PassSetup,
    shape: tuple[int, ...],
    items: Sequence[ConditioningItem],
    noise: Noise,
    *,
    init: Tensor | None = None,
    on_step: OnStep = ignore_step,
    on_estimate: OnEstimate = ignore_estimate,
) -> Tensor:
    """Samples one window in one pass. Returns its normalised latents, of `shape` = [1, C, F, H, W].

    `setup`: the set-up of the pass.
    `items`: the clips and images that the window is conditioned on.
    `noise`: a function of (name, shape) that returns noise. Equal names give equal noise.
    `init`: latents of the same shape that the pass refines: it starts from them, noised to the first noise level. If
        `init` is None, the pass starts from noise alone.
    `on_step`: the callback before each step.
    `on_estimate`: the callback for the estimates of the clean latents.
    """
    sequence = place(items, shape, setup.grid, noise, init=init, level=float(setup.levels[0]))

    def latent(tokens: Tensor) -> Tensor:
        return to_latent(tokens[:, sequence.extra :], shape)

    def on_clean(step: int, steps: int, clean: Callable[[], Tensor]) -> None:
        on_estimate(step, steps, lambda: latent(clean()))

    return latent(deque(trajectory(setup, sequence, noise, on_step, on_clean), maxlen=1).pop())


@dataclass(frozen=True)
class Video:
    """The normalised latents of the video after one or more windows: all that the next window needs.

    `latents`: for each pass, the latents [1, C, F, H, W] of all windows so far, joined by `fuse`.
    `first`: for each pass, the latents [1, C, F, H, W] of the first window alone.
    """

    latents: tuple[Tensor, ...]
    first: tuple[Tensor, ...]

    def to_tensors(self) -> dict[str, Tensor]:
        """Returns the tensors by the names under which `Resume` saves them. For each pass (numbered from 0) there are
        two:

        - `video.<pass>`: the latents of all frames that are sampled so far.
        - `first.<pass>`: those of the first window."""
        named = {"video": self.latents, "first": self.first}
        return {f"{name}.{number}": one for name, passes in named.items() for number, one in enumerate(passes)}

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor]) -> "Video":
        """Returns the video (latents of all frames so far) that `to_tensors` turned into these tensors."""
        passes = range(len(tensors) // 2)
        return cls(*(tuple(tensors[f"{name}.{number}"] for number in passes) for name in ("video", "first")))


@dataclass(frozen=True)
class Setup:
    """The set-up with which all windows of a plan are sampled.

    `passes`: the set-ups of one or two passes.
    `windows`: the windows, as ranges of latent frames.
    `overlap_latents`: the number of latent frames that a window shares with the window before it.
    `overlap_strength`: how closely a window follows these latent frames, 0 (not at all) to 1 (unchanged).
    `temporal_adain_factor`: how far each later window takes on the first window's colours, 0 (not) to 1 (fully).
    `upsampler`: the model that doubles the height and width of the latents for a second pass. It may be None if there
        is one pass.
    `statistics`: the mean and standard deviation of the VAE's latents.
    `set_pass`: a function that sets the LoRAs' strengths for a pass. It is called as `set_pass(n)` before pass n (from
        0), and as `set_pass(None)` when nothing more is sampled.
    `on_estimate`: a function of a pass's and a window's number (both from 0). It returns the callback for estimates of
        the clean latents in that pass over that window.
    """

    passes: tuple[PassSetup, ...]
    windows: tuple[Window, ...]
    overlap_latents: int
    overlap_strength: float
    temporal_adain_factor: float
    upsampler: Any | None
    statistics: Statistics
    set_pass: Callable[[int | None], None] = lambda number: None
    on_estimate: Callable[[int, int], OnEstimate] = lambda pass_number, window: ignore_estimate

    def shape(self, window: Window, pass_: PassSetup) -> tuple[int, int, int, int, int]:
        """Returns the shape [1, C, F, H, W] of the latents of a window in a pass."""
        width, height = (side // pass_.grid.spatial for side in pass_.canvas)
        return 1, self.statistics.channels, window.stop - window.start, height, width

    def overlap(self, latents: Tensor) -> ConditioningItem:
        """Returns the conditioning item through which the next window follows the windows before it: the last
        `overlap_latents` latent frames of these windows.

        `latents`: the latents of all windows that one pass has finished, [1, C, F, H, W]. F is at least
            `overlap_latents`.
        """
        return ConditioningItem(latents[:, :, -self.overlap_latents :], 0, self.overlap_strength)


Items = Sequence[ConditioningItem]


def sample_window(setup: Setup, context: Sequence[Items], video: Video | None, current: WindowRun) -> Video:
    """Samples one window in every pass. Returns the latents of the windows so far, with this window joined to them.

    - The first window is conditioned on `context`, a later one on the last latent frames of `video`.
    - The first pass starts from noise.
    - The second pass, if there is one, starts from the first pass's latents: they are upsampled, get back the colours
      that they had before upsampling, and are noised.

    `setup`: the set-up of all windows.
    `context`: the clips and images that the first window is conditioned on, one list for each pass.
    `video`: the latents of the windows before this one; None for the first window.
    `current`: the window that is sampled, with its noise and its step callback.
    """
    window = setup.windows[current.number]
    sampled: list[Tensor] = []
    for number, pass_ in enumerate(setup.passes):
        init = adain(upsample(setup.upsampler, sampled[-1], setup.statistics), sampled[-1]) if sampled else None
        setup.set_pass(number)
        items = context[number] if video is None else [setup.overlap(video.latents[number])]
        shape = setup.shape(window, pass_)
        sampled.append(
            sample(
                pass_,
                shape,
                items,
                current.noise(number),
                init=init,
                on_step=current.on_step(number),
                on_estimate=setup.on_estimate(number, current.number),
            )
        )
    if current.is_last:
        setup.set_pass(None)  # the GPU restores the weights while it decodes
    if video is None:
        return Video(tuple(sampled), tuple(sampled))
    fused = (
        fuse(before, latents, first, setup.overlap_latents, setup.temporal_adain_factor)
        for before, latents, first in zip(video.latents, sampled, video.first, strict=True)
    )
    return Video(tuple(fused), video.first)


def sample_video(setup: Setup, context: Sequence[Items], loop: Loop) -> Iterator[Video]:
    """Samples the windows in order. After each window, yields the latents of all windows so far.

    `setup`: the set-up of all windows.
    `context`: the clips and images that the first window is conditioned on, one list for each pass.
    `loop`: the settings of the loop over the windows: noise, progress, and where finished windows are saved.
    """

    def sampled(current: WindowRun, video: Video | None) -> Tensors:
        return sample_window(setup, context, video, current).to_tensors()

    def after(current: WindowRun, video: Video | None, tensors: Tensors) -> Generator[Video, None, Video | None]:
        longer = Video.of_tensors(tensors)
        yield longer
        return longer

    start: Video | None = None
    return sample_windows(loop, start, sampled, after)
