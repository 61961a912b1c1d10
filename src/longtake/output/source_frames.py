"""Reads the source's own frames and sound for the output."""

from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from longtake.families.family import RGBFrames
from longtake.media import sound
from longtake.media.sound import Samples
from longtake.media.source import SourceReader
from longtake.media.tempo import stretch
from longtake.plans import Plan
from longtake.video import OnProgress, Progress, Span

Pixels = NDArray[np.uint8] | NDArray[np.float32]
"""Frames [t, H, W, 3]: uint8, or floats in 0..1."""


def write_source(
    source: SourceReader, plan: Plan, write: Callable[[Pixels], None], on_progress: OnProgress
) -> RGBFrames:
    """Writes the source's own frames of the output and returns the context: the last frames that were read.

    Frames are scaled to the output's size. The context is [context_frames, H, W, 3], at least one frame.
    """
    context: RGBFrames = np.empty((0, plan.height, plan.width, 3), np.uint8)
    done = 0
    for chunk in source.frames(plan.context, plan.size):
        on_progress(Progress("context", done, len(plan.context)))
        shown = chunk[: max(0, plan.source_frames - done)]
        if len(shown):
            write(shown)
        context = np.concatenate([context, chunk])
        context = context[max(0, len(context) - max(plan.context_frames, 1)) :]
        done += len(chunk)
    return context


def backward_context(source: SourceReader, plan: Plan) -> RGBFrames:
    """Returns a backward extension's context, the source's first frames [context_frames, H, W, 3], at least one."""
    stop = plan.context.start + max(plan.context_frames, 1)
    return np.concatenate(list(source.frames(Span(plan.context.start, stop, plan.context.rate), plan.size)))


def frames_after_joint(source: SourceReader, plan: Plan, on_progress: OnProgress) -> Iterator[RGBFrames]:
    """Yields the source's own frames that follow the new ones, in chunks [t, H, W, 3]."""
    span = Span(plan.context.stop - plan.source_frames, plan.context.stop, plan.context.rate)
    done = 0
    for chunk in source.frames(span, plan.size) if len(span) else ():
        on_progress(Progress("footage", done, len(span)))
        done += len(chunk)
        yield chunk


def source_sound(source: SourceReader, plan: Plan) -> Samples | None:
    """Returns the sound of the shown source frames [2, n] at their playback speed; None if there is none."""
    if not plan.shown_frames:
        return None
    span = plan.context
    samples = source.sound(Fraction(span.start) / span.rate, Fraction(span.stop) / span.rate)
    if samples is None:
        return None
    if span.reverse:
        samples = sound.reverse(samples)
    return stretch(samples, plan.speed, sound.num_samples(plan.shown_frames, plan.rate))
