"""The source's own frames and sound on their way into the result."""

from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from longtake.families.family import Frames
from longtake.media import sound
from longtake.media.sound import Samples
from longtake.media.source import SourceReader
from longtake.media.tempo import stretch
from longtake.plans import Plan
from longtake.video import OnProgress, Progress, Span

Pixels = NDArray[np.uint8] | NDArray[np.float32]


def write_source(source: SourceReader, plan: Plan, write: Callable[[Pixels], None], on_progress: OnProgress) -> Frames:
    """Reads the source at the output's size and writes what is shown of it as it is; returns the context, its last
    frames [context_frames, H, W, 3]."""
    context: Frames = np.empty((0, plan.height, plan.width, 3), np.uint8)
    done = 0
    for chunk in source.frames(plan.context, plan.size):
        on_progress(Progress("context", done, len(plan.context)))
        shown = chunk[: max(0, plan.kept_frames - done)]
        if len(shown):
            write(shown)
        context = np.concatenate([context, chunk])
        context = context[max(0, len(context) - max(plan.context_frames, 1)) :]
        done += len(chunk)
    return context


def first_frames(source: SourceReader, plan: Plan) -> Frames:
    """The context of what comes before the source: its first frames [context_frames, H, W, 3], at least one."""
    stop = plan.context.start + max(plan.context_frames, 1)
    return np.concatenate(list(source.frames(Span(plan.context.start, stop, plan.context.rate), plan.size)))


def frames_after(source: SourceReader, plan: Plan, on_progress: OnProgress) -> Iterator[Frames]:
    """The source's own frames that follow on new ones."""
    span = Span(plan.context.stop - plan.kept_frames, plan.context.stop, plan.context.rate)
    done = 0
    for chunk in source.frames(span, plan.size) if len(span) else ():
        on_progress(Progress("footage", done, len(span)))
        done += len(chunk)
        yield chunk


def source_sound(source: SourceReader, plan: Plan) -> Samples | None:
    """The sound of the shown frames [2, n], at the speed its picture is shown; None where there is none."""
    if not plan.shown_frames:
        return None
    span = plan.context
    samples = source.sound(Fraction(span.start) / span.rate, Fraction(span.stop) / span.rate)
    if samples is None:
        return None
    if span.reverse:
        samples = sound.reverse(samples)
    return stretch(samples, plan.speed, sound.num_samples(plan.shown_frames, plan.rate))
