"""Maps the timestamps of stored frames to a constant frame rate, with exact fractions."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import gcd

from longtake.errors import InvalidRequest
from longtake.video import Span

FALLBACK_RATE = Fraction(25)
"""Frames per second that are assumed for a single frame without a duration and for a file that states no rate."""

_MAX_RATE = 240
_MAX_VARIABLE_RATE = 60
"""Highest rate in frames per second that rules 2 and 4 of `_clock` compute from the times of a variable-rate video."""

_MAX_REPEATS = 3
"""Largest constant rate for a variable-rate video, as a multiple of the average rate. It limits repeated frames."""

_STANDARD_TOLERANCE = Fraction(1, 1000)
"""Relative difference up to which a rate is replaced by the nearest standard rate."""

_JITTER = Fraction(1, 3)
"""Largest error of the timestamps of a camera with a steady rate, as a share of a frame's duration."""

_MAX_DENOMINATOR = 1001
_NTSC = Fraction(1000, 1001)


@dataclass(frozen=True)
class Timeline:
    """The times of a video's stored frames, and the constant rate at which the video is read.

    pts: presentation times of the stored frames in ticks, in rising order.
    end: time in ticks at which the last frame ends.
    tick_s: seconds of one tick.
    rate, num_frames: the constant rate in frames per second, and the number of frames at this rate.
    variable: True if the stored frames have no constant rate. Then frames at `rate` repeat or leave out stored frames.
    """

    pts: tuple[int, ...]
    end: int
    tick_s: Fraction
    rate: Fraction
    num_frames: int
    variable: bool

    @property
    def duration_s(self) -> Fraction:
        """Seconds from the first frame to the end of the last one."""
        return (self.end - self.pts[0]) * self.tick_s

    def stored(self, span: Span) -> list[int]:
        """Returns the index of the stored frame that each frame of the span shows, in playing order.

        Frame n of the span shows the stored frame that is visible at the middle of frame n, (n + 1/2) / `span.rate`
        seconds after the first stored frame. If the video has the same constant rate as the span, each stored frame is
        shown once. Raises InvalidRequest if the span is outside the video.
        """
        last = self.num_frames * span.rate / self.rate
        if not 0 <= span.start < span.stop < last + 1:
            raise InvalidRequest(
                f"Frames {span.start} to {span.stop} at {float(span.rate):g} per second were asked of a video "
                f"of {self.num_frames} frames at {float(self.rate):g} per second.",
                value=[span.start, span.stop],
            )
        numbers = range(span.start, span.stop)
        if not self.variable and span.rate == self.rate:
            shown = [min(n, self.num_frames - 1) for n in numbers]
        elif not self.variable:
            ratio = self.rate / span.rate
            shown = [min(_below((2 * n + 1) * ratio / 2), self.num_frames - 1) for n in numbers]
        else:
            scale = 2 * span.rate * self.tick_s
            first = self.pts[0]
            shown = [
                max(0, bisect_left(self.pts, first + -(-(2 * n + 1) * scale.denominator // scale.numerator)) - 1)
                for n in numbers
            ]
        return shown[::-1] if span.reverse else shown


def _below(bound: Fraction) -> int:
    """Returns the largest integer less than `bound`."""
    return -(-bound.numerator // bound.denominator) - 1


def timeline(pts: Sequence[int], last_duration: int, tick_s: Fraction, declared: Fraction | None) -> Timeline:
    """Returns the timeline of a video whose frames have the presentation times `pts`.

    `pts` are in rising order, in ticks of `tick_s` seconds. `last_duration` is the duration of the last frame in ticks,
    0 if unknown. `declared` is the average rate in frames per second that the container states, or None.
    """
    pts = tuple(pts)
    deltas = sorted(b - a for a, b in pairwise(pts))
    typical = deltas[len(deltas) // 2] if deltas else 0
    end = pts[-1] + (last_duration if last_duration > 0 else typical)
    if not deltas:
        rate = declared or (1 / (last_duration * tick_s) if last_duration > 0 else FALLBACK_RATE)
        return Timeline(pts, end, tick_s, _standard(rate) or rate, 1, False)
    measured = (len(pts) - 1) / ((pts[-1] - pts[0]) * tick_s)
    rate, variable = _clock(pts, deltas, tick_s, declared or measured, measured)
    shown = max(1, round((end - pts[0]) * tick_s * rate)) if variable else len(pts)
    return Timeline(pts, end, tick_s, rate, shown, variable)


def _clock(
    pts: Sequence[int], deltas: Sequence[int], tick_s: Fraction, declared: Fraction, measured: Fraction
) -> tuple[Fraction, bool]:
    """Returns (rate, is_variable) for rising times `pts` and their sorted differences `deltas`, both in ticks.

    `declared` is the rate that the container states, and `measured` the average rate. The first rule that fits decides:
    1. All times are within one tick of a constant rate. These rates are tried: the standard rate nearest to `declared`,
       `declared`, the standard rate nearest to `measured`, `measured`.
    2. All times are multiples of one step, counted from the first time. The result is the rate of the largest such
       step, if it is at most _MAX_VARIABLE_RATE and at most _MAX_REPEATS x `measured`. It is variable.
    3. All times are within _JITTER of a constant rate: the standard rate nearest to `measured`, or `measured`.
    4. The rate is variable. It is the rate of the frames with a usual duration (a screen recording may pause between
       them), or `measured` if that rate is too high.
    """
    for guess in (declared, measured):
        for rate in (_nearest_standard(guess), guess):
            if _fits(pts, 1 / (rate * tick_s), min(Fraction(1), 1 / (3 * rate * tick_s))):
                return rate, False
    highest = min(Fraction(_MAX_VARIABLE_RATE), _MAX_REPEATS * measured)
    common = 1 / (gcd(*deltas) * tick_s)
    if common <= highest:
        return common, True
    for rate in (_nearest_standard(measured), measured.limit_denominator(_MAX_DENOMINATOR) or measured):
        if _fits(pts, 1 / (rate * tick_s), _JITTER / (rate * tick_s)):
            return rate, False
    typical = deltas[len(deltas) // 2]
    usual = [delta for delta in deltas if 4 * abs(delta - typical) <= typical]
    usual_rate = len(usual) / (sum(usual) * tick_s)
    rate = min(max(usual_rate if usual_rate <= highest else measured, Fraction(1)), Fraction(_MAX_RATE))
    return _standard(rate) or rate.limit_denominator(_MAX_DENOMINATOR), True


def _nearest_standard(rate: Fraction) -> Fraction:
    """Returns the nearest standard rate: n or n x 1000/1001 frames per second for an integer n."""
    integer = min(max(1, round(rate)), _MAX_RATE)
    return min((Fraction(integer), integer * _NTSC), key=lambda standard: abs(standard - rate))


def _standard(rate: Fraction) -> Fraction | None:
    """Returns the nearest standard rate, or None if it is more than 0.1 % away."""
    nearest = _nearest_standard(rate)
    return nearest if abs(nearest - rate) <= rate * _STANDARD_TOLERANCE else None


def _fits(pts: Sequence[int], step: Fraction, tolerance: Fraction) -> bool:
    """True if each time pts[n] is within `tolerance` ticks of pts[0] + n x `step` ticks."""
    first, p, q = pts[0], step.numerator, step.denominator
    most = int(tolerance * q)
    return all(abs((time - first) * q - index * p) <= most for index, time in enumerate(pts))
