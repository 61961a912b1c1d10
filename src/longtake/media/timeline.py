"""Maps the timestamps of stored frames to a constant frame rate, with exact arithmetic."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import gcd

from longtake.errors import InvalidRequest
from longtake.video import Span

FALLBACK_RATE = Fraction(25)
"""Frames per second of a single frame without duration and of a file without any rate."""

_MAX_RATE = 240
_MAX_VARIABLE_RATE = 60
"""Highest rate in frames per second that is chosen because all times of a variable rate are on its clock."""

_MAX_REPEATS = 3
"""A variable rate gets at most this multiple of its average rate, so that frames are not repeated more often."""

_STANDARD_TOLERANCE = Fraction(1, 1000)
"""A rate within this share of a standard rate is replaced by it."""

_JITTER = Fraction(1, 3)
"""Share of a frame's duration by which the times of a steady camera can be off."""

_MAX_DENOMINATOR = 1001
_NTSC = Fraction(1000, 1001)


@dataclass(frozen=True)
class Timeline:
    """The times of a video's stored frames, and its frames at a constant rate.

    `pts` are the rising presentation times of the stored frames in ticks of `tick_s` seconds; `end` is the end of the
    last one. `num_frames` counts the frames at the constant `rate` (frames per second), which are not the stored frames
    one by one if the stored rate is `variable`.
    """

    pts: tuple[int, ...]
    end: int
    tick_s: Fraction
    rate: Fraction
    num_frames: int
    variable: bool

    @property
    def duration_s(self) -> Fraction:
        return (self.end - self.pts[0]) * self.tick_s

    def stored(self, span: Span) -> list[int]:
        """Returns the index of the stored frame that is shown for each frame of the span, in the span's order.

        Frame n at `span.rate` shows the last stored frame that begins before its middle, (n + 1/2) / rate. At a steady
        rate that is the nearest frame, and at equal rates each frame once. Raises InvalidRequest for a span outside the
        video.
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
    """Returns the timeline of rising presentation times `pts`, in ticks of `tick_s` seconds.

    `last_duration` is that of the last frame in ticks, 0 if unknown. `declared` is the average rate that the container
    states, in frames per second.
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
    """Returns (rate, is_variable) for rising times `pts` and their sorted differences `deltas`, in ticks.

    The first rate that fits is chosen:
    1. steady within a tick: the standard rate nearest to the declared rate, the declared rate, and both for `measured`;
    2. variable: the slowest clock that has every time, if it is at most _MAX_VARIABLE_RATE and _MAX_REPEATS x average;
    3. steady within a camera's jitter: the standard rate nearest to `measured`, or `measured`;
    4. variable: the rate of most frames (as in a screen recording that stood still), else the average.
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
    """Returns the nearest of n and n x 1000/1001 frames per second."""
    integer = min(max(1, round(rate)), _MAX_RATE)
    return min((Fraction(integer), integer * _NTSC), key=lambda standard: abs(standard - rate))


def _standard(rate: Fraction) -> Fraction | None:
    """Returns the nearest standard rate, or None if it is more than 0.1 % away."""
    nearest = _nearest_standard(rate)
    return nearest if abs(nearest - rate) <= rate * _STANDARD_TOLERANCE else None


def _fits(pts: Sequence[int], step: Fraction, tolerance: Fraction) -> bool:
    """True if each time pts[n] is within `tolerance` ticks of pts[0] + n x step."""
    first, p, q = pts[0], step.numerator, step.denominator
    most = int(tolerance * q)
    return all(abs((time - first) * q - index * p) <= most for index, time in enumerate(pts))
