"""Reads the source's frames and sound for the output and for the context."""

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
"""Frames [t, H, W, 3], uint8 in 0..255 or float32 in 0..1."""


def write_source(
    source: SourceReader, plan: Plan, write: Callable[[Pixels], None], on_progress: OnProgress
) -> RGBFrames:
    """Writes the source frames that the output shows unchanged, at the output's size. Returns the context.

    The context is the last T frames that were read, [T, H, W, 3]. T is `plan.context_frames`, but at least 1.
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
    """Returns the context of a backward extension: the source's first frames [T, H, W, 3] at the output's size.

    T is `plan.context_frames`, but at least 1.
    """
    stop = plan.context.start + max(plan.context_frames, 1)
    return np.concatenate(list(source.frames(Span(plan.context.start, stop, plan.context.rate), plan.size)))


def frames_after_joint(source: SourceReader, plan: Plan, on_progress: OnProgress) -> Iterator[RGBFrames]:
    """Yields the source's frames that play after the new ones, in chunks [t, H, W, 3] at the output's size."""
    span = Span(plan.context.stop - plan.source_frames, plan.context.stop, plan.context.rate)
    done = 0
    for chunk in source.frames(span, plan.size) if len(span) else ():
        on_progress(Progress("footage", done, len(span)))
        done += len(chunk)
        yield chunk


def source_sound(source: SourceReader, plan: Plan) -> Samples | None:
    """Returns the sound of the shown source frames, [2, n] at SOUND_RATE, as fast as the output plays these frames.

    Returns None if the source has no sound or none of its frames are shown.
    """
    if not plan.shown_frames:
        return None
    span = plan.context
    samples = source.sound(Fraction(span.start) / span.rate, Fraction(span.stop) / span.rate)
    if samples is None:
        return None
    if span.reverse:
        samples = sound.reverse(samples)
    return stretch(samples, plan.speed, sound.num_samples(plan.shown_frames, plan.rate))
