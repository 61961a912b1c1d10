"""When each stored frame is shown: exact arithmetic from timestamps to a constant clock, without any codec."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import gcd

from longtake.errors import InvalidRequest
from longtake.video import Span

FALLBACK_RATE = Fraction(25)
"""Of a single frame that tells nothing."""

_HIGHEST_RATE = 240
_FINEST_VARIABLE_RATE = 60
_MOST_REPEATS = 3
_STANDARD = Fraction(1, 1000)
_JITTER = Fraction(1, 3)
_LARGEST_DENOMINATOR = 1001
_NTSC = Fraction(1000, 1001)


@dataclass(frozen=True)
class Timeline:
    """Stored frames on the clock of the file.

    `pts` are the presentation times in ticks of `tick_s` seconds, rising; `end` is when the last one disappears.
    `rate`, `num_frames` and `variable` are those of `VideoInfo`.
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
        """For each frame of the span, in its order, which stored frame is shown.

        At another rate than the file's own that is the last one which begins before the middle of the shown frame
        (n + 1/2) / rate: the nearest one for a steady clock, none repeated at equal rates.
        Raises InvalidRequest where the span leaves the video.
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
    """The largest integer less than `bound`."""
    return -(-bound.numerator // bound.denominator) - 1


def timeline(pts: Sequence[int], last_duration: int, tick_s: Fraction, declared: Fraction | None) -> Timeline:
    """The timeline of rising `pts`; `last_duration` in ticks (0: unknown), `declared` the container's average rate."""
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
    """The rate, and whether frames come irregularly on its clock; `deltas` are sorted.

    Steady within a tick: the standard rate nearest to the declared one, or that itself, or so with the measured one.
    Else, but never much faster than the average: the slowest clock on which every time lies; a standard clock within a
    camera's jitter, which is steady, too; the distance of most frames (a screen that stood still); the average.
    """
    for guess in (declared, measured):
        for rate in (_nearest_standard(guess), guess):
            if _fits(pts, 1 / (rate * tick_s), min(Fraction(1), 1 / (3 * rate * tick_s))):
                return rate, False
    highest = min(Fraction(_FINEST_VARIABLE_RATE), _MOST_REPEATS * measured)
    grid = 1 / (gcd(*deltas) * tick_s)
    if grid <= highest:
        return grid, True
    for rate in (_nearest_standard(measured), measured.limit_denominator(_LARGEST_DENOMINATOR) or measured):
        if _fits(pts, 1 / (rate * tick_s), _JITTER / (rate * tick_s)):
            return rate, False
    typical = deltas[len(deltas) // 2]
    usual = [delta for delta in deltas if 4 * abs(delta - typical) <= typical]
    most = len(usual) / (sum(usual) * tick_s)
    rate = min(max(most if most <= highest else measured, Fraction(1)), Fraction(_HIGHEST_RATE))
    return _standard(rate) or rate.limit_denominator(_LARGEST_DENOMINATOR), True


def _nearest_standard(rate: Fraction) -> Fraction:
    """The nearest of n and n x 1000/1001 frames per second."""
    whole = min(max(1, round(rate)), _HIGHEST_RATE)
    return min((Fraction(whole), whole * _NTSC), key=lambda standard: abs(standard - rate))


def _standard(rate: Fraction) -> Fraction | None:
    """The nearest standard rate, where it lies within 0.1 %."""
    nearest = _nearest_standard(rate)
    return nearest if abs(nearest - rate) <= rate * _STANDARD else None


def _fits(pts: Sequence[int], step: Fraction, tolerance: Fraction) -> bool:
    """Whether every time is within `tolerance` ticks of a clock that counts `step` ticks per frame."""
    first, p, q = pts[0], step.numerator, step.denominator
    most = int(tolerance * q)
    return all(abs((time - first) * q - index * p) <= most for index, time in enumerate(pts))
