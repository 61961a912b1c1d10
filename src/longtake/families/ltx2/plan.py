"""The plan of LTX-2.3: frame rates, windows, the sizes of the frames, and guidance."""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from longtake.families.ltx2.frame_counts import context_notes, frame_counts, window_context
from longtake.families.ltx2.notes import plan_notes
from longtake.families.ltx2.options import GuidanceScales, LTX2Options, LTX2PlanOptions, needed_predictions
from longtake.families.ltx2.windows import Window, plan_windows, window_limit
from longtake.models.registry import LTX2Card
from longtake.plans import (
    Plan,
    Size,
    adapters_of_passes,
    model_canvas,
    playable_rate,
    shortened_url,
    span_on_clock,
)
from longtake.sampling.levels import Acceleration, evaluates_model
from longtake.video import VideoInfo

SECOND_PASS_STEPS = 3
"""The number of steps of the second pass, which refines the result of the first one at twice the size. Each of them
evaluates the model once."""

POSITION_RANGE_PX = 2048
"""The longest side in pixels of a canvas, the size at which the model works. The model's position embedding has no
larger positions."""

NTSC_RATES = (24, 30, 48, 60)
"""The frame rates that have an NTSC variant at 1000/1001 of the rate: 24000/1001, 30000/1001 and so on."""

NTSC_ROUNDING = Fraction("0.005")
"""A decimal frame rate is taken as an NTSC rate if the two differ by less than this, in frames per second."""

LARGEST_DENOMINATOR = 1001
"""The largest denominator of a frame rate. It keeps every NTSC rate exact, and containers can store it."""


@dataclass(frozen=True, kw_only=True)
class LTX2Plan(LTX2PlanOptions, Plan):
    """The plan of LTX-2.3. The source is read at the output's `rate`.

    `windows`: the windows in the order of sampling. The first continues the source, and each later one the window
        before it.
    `canvases`: for each pass, (width, height) in pixels of the frames that it samples. The second pass's are twice as
        wide and high as the first's.
    `video`, `audio`: the guidance scales of each modality in the first pass. The second pass is unguided.
    `stg_blocks`: the numbers (from 0) of the transformer blocks in which spatio-temporal guidance (STG) disturbs the
        self-attention.
    `acceleration`: how many steps of the first pass extrapolate earlier predictions instead of evaluating the model:
        "none" of them, or more and more with "regular", "high" and "full".
    """

    family: Literal["ltx2"] = "ltx2"
    windows: tuple[Window, ...]
    canvases: tuple[Size, ...]
    video: GuidanceScales
    audio: GuidanceScales
    stg_blocks: tuple[int, ...]
    acceleration: Acceleration

    @property
    def num_windows(self) -> int:
        return len(self.windows)

    @property
    def num_passes(self) -> int:
        return len(self.canvases)

    @property
    def predictions(self) -> tuple[str, ...]:
        """The names of the predictions that each step of the first pass makes (see `needed_predictions`)."""
        return needed_predictions((self.video, self.audio) if self.sound else (self.video,))

    @property
    def evaluations(self) -> int:
        evaluated = sum(evaluates_model(step, self.steps, self.acceleration) for step in range(self.steps))
        second = SECOND_PASS_STEPS * (self.num_passes - 1)
        return self.num_windows * (evaluated * len(self.predictions) + second)

    @property
    def source_last(self) -> bool:
        return self.direction == "backward"

    @property
    def makes_sound(self) -> bool:
        return self.sound

    @property
    def sound_strength(self) -> float:
        return self.audio_strength

    def context_strengths(self, window: int) -> tuple[float, float]:
        """Returns how strongly window number `window` (from 0) keeps its context.

        These are two strengths, of the context's frames and of its sound, each 0 (ignored) to 1 (unchanged).

        The strengths of the request are for the source, so they apply to the first window alone. A later window
        continues what an earlier window made, and keeps it unchanged.
        """
        return (self.strength, self.audio_strength) if window == 0 else (1.0, 1.0)


def make_plan(options: LTX2Options, source: VideoInfo, card: LTX2Card, seed: int) -> LTX2Plan:
    """Returns the plan for extending `source` with the model of `card`, as the options say. `seed` is the seed of the
    noise.

    Raises InvalidRequest, which names the request's field, if the options cannot be served.
    """
    rate = output_rate(source, None if options.own_rate else options.frame_rate)
    backward = options.direction == "backward"
    span = span_on_clock(0, source.num_frames, source.rate, rate, joint_first=backward)
    counts = frame_counts(options, len(span))
    context = min(window_context(options, counts, len(span)), card.max_context_frames)
    windows = plan_windows(options.direction, len(span), context, counts.new_frames, window_limit(rate, card))
    size = even_size((source.width, source.height) if options.size is None else options.size)
    canvases = pass_canvases(size, 1 + options.multiscale, card)
    plan = LTX2Plan(
        **options.values_of(LTX2PlanOptions),
        model=card.name,
        seed=seed,
        width=size[0],
        height=size[1],
        rate=rate,
        context=span,
        shown_frames=len(span),
        context_frames=windows[0].context_frames,
        new_frames=counts.new_frames,
        billed_frames=counts.billed_frames,
        adapters=adapters_of_passes(options.adapters, len(canvases)),
        end_image=None if options.end_image is None else shortened_url(options.end_image),
        windows=windows,
        canvases=canvases,
        video=scaled_guidance(options.video, card.guidance_share),
        audio=scaled_guidance(options.audio, card.guidance_share),
        stg_blocks=card.stg_blocks,
        acceleration=options.acceleration or "none",
    )
    notes = context_notes(options, counts, len(span), windows[0])
    return replace(plan, notes=(*plan_notes(options, source, plan), *notes))


def scaled_guidance(scales: GuidanceScales, share: float) -> GuidanceScales:
    """Returns weaker guidance scales: `scales` moved towards the values at which guidance is off. `rescale` is
    unchanged.

    `share`: how much of the guidance stays: 1 changes nothing, 0 switches guidance off. It is below 1 for the small
        model in the package, whose output breaks at scales that are tuned for the 22B model.
    """
    return GuidanceScales(
        cfg=1 + share * (scales.cfg - 1),
        stg=share * scales.stg,
        modality=1 + share * (scales.modality - 1),
        rescale=scales.rescale,
    )


# Rates


def exact_rate(fps: float) -> Fraction:
    """Returns the exact rate for a decimal number of frames per second.

    23.976, 23.98, 29.97, 47.95 and 59.94 become NTSC rates (24000/1001 and so on). Any other number keeps its value:
    12.5 becomes 25/2.
    """
    rate = Fraction(str(fps))
    ntsc = (Fraction(1000 * nominal, 1001) for nominal in NTSC_RATES)
    near = next((exact for exact in ntsc if abs(exact - rate) < NTSC_ROUNDING), None)
    return near or rate.limit_denominator(LARGEST_DENOMINATOR)


def output_rate(source: VideoInfo, fps: float | None) -> Fraction:
    """Returns the rate in frames per second at which the source is read and the output plays.

    It is the requested rate `fps`. If `fps` is None, it is the source's own rate, limited to 1..60 frames per second.
    """
    return playable_rate(source.rate) if fps is None else exact_rate(fps)


# Sizes


def even_size(size: Size) -> Size:
    """Returns `size` with each odd side reduced by one pixel, but no side below 2.

    Sides must be even because videos store colour for 2 x 2 pixels.
    """
    return max(size[0] // 2 * 2, 2), max(size[1] // 2 * 2, 2)


def pass_canvases(size: Size, passes: int, card: LTX2Card) -> tuple[Size, ...]:
    """Returns, for each pass, the canvas: (width, height) in pixels of the frames that the pass samples.

    `size`: (width, height) of the output in pixels.
    `passes`: the number of passes, 1 or 2.
    `card`: the model card.

    A second canvas is twice as wide and high as the first. The sizes depend on the card's `native_short_side`:
    - If it is None, the model works at any size. The last canvas is `size`, rounded up to a number of pixels that fills
      whole latents in each pass. If the long side of `size` is above 2048 pixels (POSITION_RANGE_PX), `size` is first
      scaled down to it.
    - Otherwise the model works only at this short side, in pixels. The first canvas is `size`, scaled to this short
      side and rounded to whole latents.
    """
    step = card.spatial_compression
    if card.native_short_side is not None:
        width, height = model_canvas(size, card.native_short_side, step)
    else:
        width, height = _covering(size, step * passes)
        width, height = width // passes, height // passes
    return tuple((width * factor, height * factor) for factor in range(1, passes + 1))


def _covering(size: Size, step: int) -> Size:
    share = min(Fraction(1), Fraction(POSITION_RANGE_PX, max(size)))
    width, height = (-(-side * share // step) * step for side in size)
    return int(width), int(height)
