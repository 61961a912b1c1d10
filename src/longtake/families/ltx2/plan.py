"""The plan of LTX-2.3: rates, windows, canvases and guidance."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from longtake.families.ltx2.frame_counts import context_notes, frame_counts, window_context
from longtake.families.ltx2.options import GuidanceScales, LTX2Options, LTX2PlanOptions
from longtake.families.ltx2.windows import Window, plan_windows, window_limit
from longtake.models.registry import LTX2Card
from longtake.plans import (
    Plan,
    Size,
    adapters_of_passes,
    frames_on_clock,
    model_canvas,
    playable_rate,
    shortened_url,
)
from longtake.sampling.levels import Acceleration, evaluates_model
from longtake.video import Span, VideoInfo

SECOND_PASS_STEPS = 3
"""Steps of the second pass, each one evaluation."""

POSITION_RANGE_PX = 2048
"""The longest side of a canvas in pixels: the reach of LTX-2's positions in space."""

NTSC_RATES = (24, 30, 48, 60)
"""The nominal rates whose NTSC rate is 1000/1001 of it."""

NTSC_ROUNDING = Fraction("0.005")
"""A decimal rate nearer than this to an NTSC rate means that rate."""

LARGEST_DENOMINATOR = 1001
"""The largest denominator of a rate, so that containers can store it."""


@dataclass(frozen=True, kw_only=True)
class LTX2Plan(LTX2PlanOptions, Plan):
    """The plan of windows of LTX-2.3, each of which continues the one before.

    `rate` is also the rate at which the source is read. `canvases`: (width, height) of each pass; the second has twice
    the first's sides. `video`, `audio`: the guidance of each modality in the first pass. `stg_blocks`: the transformer
    blocks that STG disturbs. `acceleration`: which steps of the first pass extrapolate.
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
        """The names of the predictions in each step of the first pass: `prompt`, and those that the guidance compares
        it with. Without sound there is no other modality to isolate."""
        guided = (self.video, self.audio) if self.sound else (self.video,)
        compared = {
            "negative": any(scales.cfg != 1 for scales in guided),
            "disturbed": any(scales.stg != 0 for scales in guided),
            "isolated": self.sound and any(scales.modality != 1 for scales in guided),
        }
        return ("prompt", *(name for name, needed in compared.items() if needed))

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


def make_plan(options: LTX2Options, source: VideoInfo, card: LTX2Card, seed: int) -> LTX2Plan:
    """Returns the plan of these options. Raises InvalidRequest naming the field that cannot be served."""
    rate = output_rate(source, None if options.own_rate else options.frame_rate)
    span = Span(0, frames_on_clock(source.num_frames, source.rate, rate), rate)
    counts = frame_counts(options, len(span))
    context = min(window_context(options, counts, len(span)), card.max_context_frames)
    windows = plan_windows(options.direction, len(span), context, counts.new_frames, window_limit(rate, card))
    size = even_size((source.width, source.height) if options.size is None else options.size)
    canvases = pass_canvases(size, 1 + options.multiscale, card)
    return LTX2Plan(
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
        notes=(*rate_notes(source, rate), *context_notes(options, counts, len(span), windows[0])),
    )


def scaled_guidance(scales: GuidanceScales, share: float) -> GuidanceScales:
    """Returns the guidance with each scale interpolated towards off by `share` (1: unchanged, 0: off).

    The tiny model breaks at scales tuned for 22B parameters.
    """
    return GuidanceScales(
        cfg=1 + share * (scales.cfg - 1),
        stg=share * scales.stg,
        modality=1 + share * (scales.modality - 1),
        rescale=scales.rescale,
    )


# Rates


def exact_rate(fps: float) -> Fraction:
    """Returns the exact rate that a decimal number means: 23.976, 23.98, 29.97, 47.95 and 59.94 are NTSC rates
    (24000/1001 ...), any other is itself (12.5 is 25/2)."""
    rate = Fraction(str(fps))
    ntsc = (Fraction(1000 * nominal, 1001) for nominal in NTSC_RATES)
    near = next((exact for exact in ntsc if abs(exact - rate) < NTSC_ROUNDING), None)
    return near or rate.limit_denominator(LARGEST_DENOMINATOR)


def output_rate(source: VideoInfo, fps: float | None) -> Fraction:
    """Returns the rate in frames per second at which the source is read and the output plays: `fps`, or for None the
    source's own, limited to what can be played."""
    return playable_rate(source.rate) if fps is None else exact_rate(fps)


def rate_notes(source: VideoInfo, rate: Fraction) -> tuple[str, ...]:
    """Returns a note for the user on a source below one frame per second."""
    if source.rate >= 1:
        return ()
    return (f"The source has {float(source.rate):g} frames per second; its frames are repeated at {float(rate):g}.",)


# Sizes


def even_size(size: Size) -> Size:
    """Returns the size without a last odd column or row (at least 2x2): videos store colour for pairs of pixels."""
    return max(size[0] // 2 * 2, 2), max(size[1] // 2 * 2, 2)


def pass_canvases(size: Size, passes: int, card: LTX2Card) -> tuple[Size, ...]:
    """Returns the canvas of each of 1 or 2 passes; the second has twice the first's sides.

    The last canvas is the size rounded up to what the passes can halve to. A size beyond the model's positions becomes
    the largest of its aspect within them. A small model's first canvas is its own.
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
