"""The arithmetic of LTX-2.3 plans: rates, the windows of an extension, and canvases."""

from fractions import Fraction
from typing import Protocol

from longtake.clip import Source, Span
from longtake.errors import InvalidRequest
from longtake.plan import (
    MOST_RATE,
    Direction,
    Extension,
    Modality,
    Scale,
    Size,
    clip_length,
    frames_on_clock,
    model_canvas,
    padded_length,
)

LEAST_RATE = Fraction(1)

POSITION_RANGE_S = 20
POSITION_RANGE_PX = 2048
"""How far LTX-2's positions reach: a window lasts no longer, and no side of a canvas is longer."""

NTSC_RATES = (24, 30, 48, 60)
NTSC_ROUNDING = Fraction("0.005")
FINEST_RATE = 1001
"""The largest denominator of a rate, so that containers can store it."""

LATENT_FRAMES = 8
"""Frames of a latent (the first holds one)."""


class LTX2Facts(Protocol):
    """What a plan must know of an LTX-2 model; the registry's cards say it.

    `native_short_side` in pixels (None: the asked size), `spatial_compression` of the VAE, the longest window it was
    made for in `window_frames`, the `stg_blocks` whose self-attention guidance disturbs, and the `guidance_share` that
    it bears (1: all that is asked for).
    """

    @property
    def name(self) -> str: ...
    @property
    def native_short_side(self) -> int | None: ...
    @property
    def spatial_compression(self) -> int: ...
    @property
    def window_frames(self) -> int: ...
    @property
    def stg_blocks(self) -> tuple[int, ...]: ...
    @property
    def guidance_share(self) -> float: ...


def bearable(scales: Modality, share: float) -> Modality:
    """Guidance at that share of what each scale asks for beyond its off value: a small model breaks under scales that
    were found for a large one."""
    return Modality(
        cfg=1 + share * (scales.cfg - 1),
        stg=share * scales.stg,
        modality=1 + share * (scales.modality - 1),
        rescale=scales.rescale,
    )


def exact_rate(fps: float) -> Fraction:
    """The rate that a decimal number means: 23.976, 23.98, 29.97, 47.95 and 59.94 are the NTSC ones (24000/1001), any
    other is itself (12.5 is 25/2)."""
    rate = Fraction(str(fps))
    ntsc = (Fraction(1000 * lines, 1001) for lines in NTSC_RATES)
    near = next((exact for exact in ntsc if abs(exact - rate) < NTSC_ROUNDING), None)
    return near or rate.limit_denominator(FINEST_RATE)


def source_clock(source: Source, fps: float | None) -> Fraction:
    """The rate that source and output play at: `fps`, or with None the source's own, kept within 1..60."""
    return min(max(source.rate, LEAST_RATE), MOST_RATE) if fps is None else exact_rate(fps)


def whole_span(source: Source, clock: Fraction) -> Span:
    """All of the source on that clock."""
    return Span(0, frames_on_clock(source.num_frames, source.rate, clock), clock)


def window_limit(rate: Fraction, model: LTX2Facts) -> int:
    """The most frames (8k+1) of one window: what the model's positions reach, and what it was made for."""
    return clip_length(min(int(POSITION_RANGE_S * rate + 4), model.window_frames))


def extensions(
    direction: Direction, available: int, context: int, new_frames: int, limit: int
) -> tuple[Extension, ...]:
    """The windows that add `new_frames` to `available` ones, each given `context` frames, as far as they are there: a
    window after the first continues what the one before it was given and made.

    The context is at most half a window; forward it is cut to 8k+1, backward to 8j. What one window has no room for
    is made in several of about equal length. Raises InvalidRequest where backward has no whole latent of context.
    """
    if direction == "backward" and available < LATENT_FRAMES:
        raise InvalidRequest(
            f"The video has {available} frames; to be extended backward it needs at least {LATENT_FRAMES}.",
            loc=("body", "extend_direction"),
            given=direction,
            ctx={"min_frames": LATENT_FRAMES},
        )
    wanted = min(context, limit // 2)
    room = limit - _context_length(direction, wanted)
    count = -(-new_frames // room)
    share = _share(direction, -(-new_frames // count))
    made = []
    for done in range(0, new_frames, share):
        given = _context_length(direction, min(wanted, available))
        new = min(share, new_frames - done)
        take = padded_length(given + new) if direction == "forward" else padded_length(new) + given
        made.append(Extension(given, new, take))
        available = given + new
    return tuple(made)


def _context_length(direction: Direction, frames: int) -> int:
    return clip_length(frames) if direction == "forward" else max(frames // LATENT_FRAMES, 1) * LATENT_FRAMES


def _share(direction: Direction, new_frames: int) -> int:
    """The least number of new frames from `new_frames` on that fills a window's last latent."""
    return padded_length(new_frames + 1) - 1 if direction == "forward" else padded_length(new_frames)


def even(size: Size) -> Size:
    """The size in whole pairs of pixels, as colour is stored: a last odd column or row is left out."""
    return max(size[0] // 2 * 2, 2), max(size[1] // 2 * 2, 2)


def scales(size: Size, distill: tuple[float, ...], model: LTX2Facts) -> tuple[Scale, ...]:
    """One scale per strength of the distill adapter: one, or two of which the second has twice the first's canvas.

    The last canvas is the size rounded up to what the scales can halve to; above the model's positions, the largest
    of that aspect within them. A small model's first canvas is its own.
    """
    step = model.spatial_compression
    if model.native_short_side is not None:
        width, height = model_canvas(size, model.native_short_side, step)
    else:
        width, height = _covering(size, step * len(distill))
        width, height = width // len(distill), height // len(distill)
    return tuple(Scale((width * factor, height * factor), strength) for factor, strength in enumerate(distill, 1))


def _covering(size: Size, step: int) -> Size:
    share = min(Fraction(1), Fraction(POSITION_RANGE_PX, max(size)))
    width, height = (-(-side * share // step) * step for side in size)
    return int(width), int(height)
