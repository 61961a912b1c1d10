"""Maps the timestamps of stored frames to a constant frame rate, with exact fractions.

A standard rate is n or n x 1000/1001 frames per second for an integer n. A usual rate is one of _USUAL_RATES, or
1000/1001 of one.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from math import gcd, sqrt

from longtake.errors import InvalidRequest
from longtake.video import Span

FALLBACK_RATE = Fraction(25)
"""Frames per second that are assumed if the rate follows neither from the file nor from the times of its frames."""

_MIN_VARIABLE_RATE = Fraction(1)
"""Lowest rate in frames per second at which a variable-rate video is read, even if it stores fewer frames."""

_MAX_RATE = 240
_MAX_PREFERRED_RATE = 60
"""Highest rate in frames per second at which a variable-rate video is read, unless it would lose frames."""

_MAX_REPEATS = 3
"""A variable-rate video can be read at a higher constant rate at which the timestamps of all stored frames are exact.
This is the largest such rate as a multiple of the video's average rate. At a higher one, frames would be repeated too
often."""

_USUAL_RATES = tuple(Fraction(n) for n in (10, 12, 15, 20, 24, 25, 30, 48, 50, 60, 72, 75, 90, 100, 120, 144, 240))
"""Rates in frames per second at which cameras, screens and programs usually work."""

_NTSC = Fraction(1000, 1001)
_USUAL_NTSC_RATES = tuple(rate * _NTSC for rate in _USUAL_RATES)

_STANDARD_TOLERANCE = Fraction(1, 1000)
"""Largest relative difference at which a rate is replaced by the nearest standard rate (n or n x 1000/1001)."""

_MAX_ERROR = Fraction(1, 20)
"""A rate that was measured from times with jitter is assumed to be wrong by at most this share of itself."""

_SHOWN_SHARE = Fraction(49, 50)
"""Share of a variable-rate video's stored frames that must be shown. A rate that shows fewer is replaced by a higher
one, if possible."""

_JITTER = Fraction(1, 3)
"""Timestamps that differ by at most this share of a frame's duration from evenly spaced times count as evenly
spaced."""

_MAX_JITTER_S = Fraction(1, 20)
"""Timestamps that differ by at most this many seconds from evenly spaced times count as evenly spaced. They must also
differ by at most a third (_JITTER) of a frame's duration, which is less at rates above 6.7 frames per second."""

_ROUNDING = Fraction(1, 2)
"""Largest error in ticks of a time that was rounded to the nearest tick."""

_REFINEMENTS = 8
_MAX_DENOMINATOR = 1001


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

    def beginning(self, count: int) -> "Timeline":
        """Returns the timeline of the first `count` stored frames; `count` is at least 1."""
        if count >= len(self.pts):
            return self
        pts, end = self.pts[:count], self.pts[count]
        num_frames = _num_frames(pts, end, self.rate * self.tick_s) if self.variable else count
        return replace(self, pts=pts, end=end, num_frames=num_frames)

    def stored(self, span: Span) -> list[int]:
        """Returns, for each frame of the span in playing order, the index of the stored frame that it shows.

        Frame n of the span shows the stored frame that is visible at its middle, (n + 1/2) / `span.rate` + `span.shift`
        seconds after the first stored frame. There are two exceptions:
        - If the video has the same constant rate as the span, each stored frame is shown once.
        - If the video's rate is variable and the span has no shift, a stored frame can be visible so briefly that no
          middle falls into its time. If the span's rate is high enough to show all stored frames, this one is shown
          too, at most one frame of the span earlier or later.

        Raises InvalidRequest if the span is outside the video.
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
        elif span.shift:
            own, ratio = self.stored(Span(0, self.num_frames, self.rate)), self.rate / span.rate
            moved = (_below((2 * n + 1) * ratio / 2 + span.shift * self.rate) for n in numbers)
            shown = [own[min(max(n, 0), self.num_frames - 1)] for n in moved]
        elif not self.variable:
            ratio = self.rate / span.rate
            shown = [min(_below((2 * n + 1) * ratio / 2), self.num_frames - 1) for n in numbers]
        else:
            ticks = span.rate * self.tick_s
            has_room = span.rate >= self.rate or len(self.pts) <= self.duration_s * span.rate
            starts = _starts(self.pts, ticks) if has_room else _nearest(self.pts, ticks)
            shown = [bisect_right(starts, n) - 1 for n in numbers]
        return shown[::-1] if span.reverse else shown


def _below(bound: Fraction) -> int:
    """Returns the largest integer less than `bound`."""
    return -(-bound.numerator // bound.denominator) - 1


def _nearest(pts: Sequence[int], rate: Fraction) -> list[int]:
    """Returns for each time in `pts`, in ticks, the number of the output frame nearest to it.

    The output has `rate` frames per tick, and its frame 0 is at the first time in `pts`.
    """
    first, p, q = pts[0], 2 * rate.numerator, 2 * rate.denominator
    return [((time - first) * p + q // 2) // q for time in pts]


def _starts(pts: Sequence[int], rate: Fraction) -> list[int]:
    """Returns for each stored frame the number of the first output frame that shows it.

    `pts` are the times of the stored frames in ticks. The output has `rate` frames per tick, and its frame 0 is at the
    first time. A stored frame begins at the output frame nearest to its time, with two exceptions:
    - If several stored frames would begin at the same output frame, they are moved by at most one frame, earlier or
      later, so that each one is shown.
    - If there is still no room for a stored frame, it is not shown: it gets the same number as the next stored frame.
      For example, three stored frames with times near output frame 5 get 4, 5 and 6 if these are free.
    """
    first, p, q = pts[0], rate.numerator, rate.denominator
    earliest: list[int | None] = []
    reached = -1
    for time in pts:
        exact = (time - first) * p
        start = max(reached + 1, -((q - exact) // q))
        if (start - 1) * q <= exact:
            earliest.append(start)
            reached = start
        else:
            earliest.append(None)
    starts = _nearest(pts, rate)
    following = max(starts[-1], reached) + 1
    for index in range(len(pts) - 1, -1, -1):
        place = earliest[index]
        if place is not None:
            following = max(place, min(starts[index], following - 1))
        starts[index] = following
    return starts


def timeline(pts: Sequence[int], last_duration: int, tick_s: Fraction, stated: Sequence[Fraction]) -> Timeline:
    """Returns the timeline of a video whose frames have the presentation times `pts`.

    `pts` are in rising order, in ticks of `tick_s` seconds. `last_duration` is the duration of the last frame in ticks,
    0 if unknown. `stated` are the rates in frames per second that the container states, the most trusted first.
    """
    pts = tuple(pts)
    deltas = [b - a for a, b in pairwise(pts)]
    typical = sorted(deltas)[len(deltas) // 2] if deltas else 0
    end = pts[-1] + (last_duration if last_duration > 0 else typical)
    if deltas:
        rate, variable = _clock(pts, end, deltas, tick_s, stated)
    else:
        rate, variable = _rate_of_one(end - pts[0], tick_s, stated), False
    if not variable:
        return Timeline(pts, end, tick_s, rate, len(pts), False)
    return Timeline(pts, end, tick_s, rate, _num_frames(pts, end, rate * tick_s), True)


def _num_frames(pts: Sequence[int], end: int, rate: Fraction) -> int:
    """Returns the number of output frames, at `rate` per tick, from the first time in `pts` to the time `end`.

    `pts` are the times of the stored frames. The number is rounded, and large enough to show the last stored frame.
    """
    return max(int((end - pts[0]) * rate + Fraction(1, 2)), _starts(pts, rate)[-1] + 1)


def _rate_of_one(duration: int, tick_s: Fraction, stated: Sequence[Fraction]) -> Fraction:
    """Returns the rate in frames per second of a video of one frame, which lasts `duration` ticks of `tick_s` seconds.

    `stated` are the rates that the container states. The first one that agrees with the duration is the result. If none
    agrees, the rate follows from the duration. If the duration is 0 (unknown), the result is the first stated rate, or
    FALLBACK_RATE if there is none. Stated rates above _MAX_RATE are ignored.
    """
    known = [rate for rate in stated if rate <= _MAX_RATE]
    if not duration:
        return known[0] if known else FALLBACK_RATE
    agreeing = [rate for rate in known if abs(duration - 1 / (rate * tick_s)) <= 1]
    rate = 1 / (duration * tick_s)
    return agreeing[0] if agreeing else _standard(rate) or rate


def _clock(
    pts: Sequence[int], end: int, deltas: Sequence[int], tick_s: Fraction, stated: Sequence[Fraction]
) -> tuple[Fraction, bool]:
    """Returns (rate, is_variable): the frames per second at which a video is read, and True if its own rate varies.

    pts: rising times of the stored frames in ticks.
    end: time in ticks at which the last frame ends.
    deltas: differences between neighbouring times in ticks.
    tick_s: seconds of one tick.
    stated: rates in frames per second that the container states, the most trusted first.
    """
    measured = (len(pts) - 1) / ((pts[-1] - pts[0]) * tick_s)
    # The first rule that fits decides:
    # 1. The rate is constant, if all times fit it with an error of at most `ticks` and 1/3 frame.
    for rate, ticks in _steady_rates(stated, measured, len(pts) / ((end - pts[0]) * tick_s)):
        if _fits(pts, 1 / (rate * tick_s), min(ticks, 1 / (3 * rate * tick_s))):
            return rate, False
    # 2. The rate is variable, if all times are multiples of one step, which is one frame.
    common = 1 / (gcd(*deltas) * tick_s)
    if common <= min(Fraction(_MAX_PREFERRED_RATE), _MAX_REPEATS * measured):
        return common, True
    # 3. The rate is constant, if all times differ from exact times by at most _JITTER frames and _MAX_JITTER_S.
    average = measured.limit_denominator(_MAX_DENOMINATOR) or measured
    for rate in (*_usual_rates(stated), _nearest_standard(measured), _nearest_usual(measured), average):
        if _spread(pts, 1 / (rate * tick_s)) * tick_s <= 2 * min(_JITTER / rate, _MAX_JITTER_S):
            return rate, False
    # 4. The rate is variable.
    return _variable_rate(pts, deltas, tick_s, measured, stated), True


def _steady_rates(stated: Sequence[Fraction], measured: Fraction, average: Fraction) -> list[tuple[Fraction, Fraction]]:
    """Returns the rates that a video may have if its rate is constant, the likeliest first, as pairs (rate, error).

    All rates are in frames per second. `error` is how far a frame's time may be from its exact time at this rate. Its
    unit is a tick, the unit of the timestamps in the file.

    stated: rates that the container states.
    measured: average rate from the beginning of the first frame to the beginning of the last one.
    average: average rate from the beginning of the first frame to the end of the last one.
    """
    one = Fraction(1)
    whole = _nearest_whole(measured)
    return [
        # Stated rates may be rounded, too, so an error of a whole tick is allowed for them.
        *((rate, one) for rate in _usual_rates(stated)),
        *((rate, _ROUNDING) for rate in (whole, whole * _NTSC)),
        *((rate, one) for guess in stated for rate in (_nearest_standard(guess), guess)),
        *((rate, _ROUNDING) for rate in (average, measured)),
        *((rate, one) for rate in (_nearest_standard(measured), measured)),
    ]


def _variable_rate(
    pts: Sequence[int], deltas: Sequence[int], tick_s: Fraction, measured: Fraction, stated: Sequence[Fraction]
) -> Fraction:
    """Returns the constant rate in frames per second at which a variable-rate video is read.

    The result is the lowest of the candidates that shows 98 % (_SHOWN_SHARE) of the stored frames. The candidates are:
    - The video's own rate: the rate without its pauses, but at least 1 (_MIN_VARIABLE_RATE). If the rate without pauses
      is above 240 (_MAX_RATE), the average rate, limited to 240, counts as the own rate. If no candidate shows 98 %,
      the own rate is the result.
    - The usual rates above the video's own rate, up to 60 (_MAX_PREFERRED_RATE). If the own rate is above 60, the usual
      rates from about the average rate to 60.

    A pause is a much longer time than usual between two frames.

    deltas: the differences between neighbouring frames' times in ticks.
    tick_s: seconds of one tick.
    measured: the video's average rate in frames per second.
    stated: the rates that the container states, the most trusted first.
    """
    rate = max(_rate_between_pauses(deltas, tick_s, stated), _MIN_VARIABLE_RATE)
    if rate > _MAX_RATE:
        rate = min(_standard(measured) or measured.limit_denominator(_MAX_DENOMINATOR), Fraction(_MAX_RATE))
    # Besides `rate`, the usual rates from `lowest` to _MAX_PREFERRED_RATE are tried, the lowest first.
    lowest = rate if rate <= _MAX_PREFERRED_RATE else measured * (1 - _MAX_ERROR)
    others = [usual for usual in _USUAL_RATES if lowest < usual <= _MAX_PREFERRED_RATE]
    for candidate in [rate, *others] if rate <= _MAX_PREFERRED_RATE else [*others, rate]:
        if len(set(_starts(pts, candidate * tick_s))) >= _SHOWN_SHARE * len(pts):
            return candidate
    return rate


def _rate_between_pauses(deltas: Sequence[int], tick_s: Fraction, stated: Sequence[Fraction]) -> Fraction:
    """Returns the frames per second of a video without its pauses. If a usual rate, such as 25 or 30000/1001, differs
    from the measured one by no more than errors of the timestamps can explain (at most 5 %), it is returned instead.

    A pause is a difference between two frames of more than 1.5 times the typical difference.

    deltas: differences of neighbouring frames' times in ticks.
    tick_s: seconds of one tick.
    stated: rates that the container states. A usual rate among them is preferred.
    """
    # The step, the typical difference between two frames, is at first the lower quartile of the differences.
    step = float(sorted(deltas)[len(deltas) // 4])
    for _ in range(_REFINEMENTS):
        # Differences of more than 3/2 steps are pauses. Those of less than 1/2 step count as no step, others as one.
        counted = [(delta, count) for delta in deltas if (count := round(delta / step)) <= 1]
        steps = sum(count for _, count in counted)
        if steps == 0:
            break
        step = sum(delta for delta, _ in counted) / steps
    squares = sum((delta - count * step) ** 2 for delta, count in counted)
    error = Fraction((1 + 2 * sqrt(squares)) / sum(delta for delta, _ in counted))
    return _snapped(1 / (Fraction(step) * tick_s), min(error, _MAX_ERROR), stated)


def _snapped(rate: Fraction, error: Fraction, stated: Sequence[Fraction]) -> Fraction:
    """Returns the most plausible exact rate for a measured `rate` in frames per second.

    It is the first of these that exists:
    1. a usual rate, such as 24 or 30000/1001, that differs from `rate` by at most `error` x `rate`;
    2. a standard rate, n or n x 1000/1001 for any integer n, that differs from `rate` by at most 0.1 %;
    3. `rate` as a fraction with a small denominator.

    stated: rates that the container states. A usual rate among them is preferred.
    """
    # Stated rates come first, because inexact times cannot tell 30 from 30000/1001.
    for known in (*_usual_rates(stated), _nearest_usual(rate)):
        if abs(known - rate) <= error * rate:
            return known
    return _standard(rate) or rate.limit_denominator(_MAX_DENOMINATOR)


def _usual_rates(rates: Sequence[Fraction]) -> list[Fraction]:
    """Returns those of `rates`, in frames per second, that are usual, each rounded to the exact usual rate.

    Usual rates are those of _USUAL_RATES, and 1000/1001 of them. A rate is rounded if the difference is at most 0.1 %.
    """
    near = [standard for rate in rates if (standard := _standard(rate)) is not None]
    return [rate for rate in near if rate in _USUAL_RATES or rate in _USUAL_NTSC_RATES]


def _nearest_usual(rate: Fraction) -> Fraction:
    return min(_USUAL_RATES, key=lambda usual: abs(usual - rate))


def _nearest_standard(rate: Fraction) -> Fraction:
    """Returns the standard rate nearest to `rate`: n or n x 1000/1001 frames per second, n integer in 1.._MAX_RATE."""
    whole = _nearest_whole(rate)
    return min((whole, whole * _NTSC), key=lambda standard: abs(standard - rate))


def _nearest_whole(rate: Fraction) -> Fraction:
    return Fraction(min(max(1, round(rate)), _MAX_RATE))


def _standard(rate: Fraction) -> Fraction | None:
    """Returns the nearest standard rate (n or n x 1000/1001 frames per second), or None if it is more than 0.1 %
    away."""
    nearest = _nearest_standard(rate)
    return nearest if abs(nearest - rate) <= rate * _STANDARD_TOLERANCE else None


def _fits(pts: Sequence[int], step: Fraction, tolerance: Fraction) -> bool:
    """Returns True if `pts` have a constant rate: each pts[n] is within `tolerance` ticks of pts[0] + n x `step`.

    `step` is the time between two frames in ticks.
    """
    first, p, q = pts[0], step.numerator, step.denominator
    most = int(tolerance * q)
    return all(abs((time - first) * q - index * p) <= most for index, time in enumerate(pts))


def _spread(pts: Sequence[int], step: Fraction) -> Fraction:
    """Returns how far `pts` are from a constant rate of one frame per `step`, in ticks.

    It is the largest minus the smallest of the differences pts[n] - n x `step`.
    """
    p, q = step.numerator, step.denominator
    delays = [time * q - index * p for index, time in enumerate(pts)]
    return Fraction(max(delays) - min(delays), q)
