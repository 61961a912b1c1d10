"""Reads the source's frames and sound for the output, and the pictures that the model sees."""

from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from longtake.media import sound
from longtake.media.crf import compress
from longtake.media.formats import SOUND_RATE
from longtake.media.planes import Planes, RGBFrames
from longtake.media.sound import Samples
from longtake.media.source import SourceReader
from longtake.media.tempo import stretch
from longtake.plans import Plan
from longtake.video import OnProgress, Progress

IMAGE_CRF = 33
"""The constant rate factor (0..51) at which the end image is compressed with H.264, because the model was trained on
compressed video frames."""


OnFrames = Callable[[RGBFrames], None]
"""A callback that receives frames, [t, H, W, 3]."""


def ignore_frames(frames: RGBFrames) -> None:
    """Does nothing; the default callback for frames."""


def context_frames(source: SourceReader, plan: Plan, on_frames: OnFrames = ignore_frames) -> RGBFrames:
    """Returns the source frames that the model sees, [T, H, W, 3] at the output's size.

    `on_frames` is called with each chunk of them, [t, H, W, 3], as soon as it is read.

    They are the T source frames nearest to the new frames, in playing order. So the nearest one is the last; but if
    `plan.source_last` is True (the new frames come before the source), it is the first. T is `plan.context_frames`, but
    at least 1.
    """
    count = max(plan.context_frames, 1)
    span = plan.context.head(count) if plan.source_last else plan.context.tail(count)
    chunks = []
    for chunk in source.frames(span, plan.size):
        on_frames(chunk)
        chunks.append(chunk)
    return np.concatenate(chunks)


def earlier_frames(source: SourceReader, plan: Plan, most: int) -> RGBFrames:
    """Returns the source frames that follow the context on the side away from the new frames, [T, H, W, 3] at the
    output's size, in playing order.

    T is at most `most`. It is less, or 0, if the output shows fewer.
    """
    seen = max(plan.context_frames, 1)
    count = min(most, plan.shown_frames - seen)
    if count <= 0:
        return np.zeros((0, plan.height, plan.width, 3), np.uint8)
    both = seen + count
    span = plan.context.head(both).tail(count) if plan.source_last else plan.context.tail(both).head(count)
    return np.concatenate(list(source.frames(span, plan.size)))


def shown_frames(source: SourceReader, plan: Plan, on_progress: OnProgress) -> Iterator[Planes]:
    """Yields the source frames that the output shows unchanged, in chunks, at the output's size and in its
    `frame_format`.

    They play before the new frames, or after them if `plan.source_last`. `on_progress` is called before each chunk.
    """
    count = plan.source_frames
    span = plan.context.tail(count) if plan.source_last else plan.context.head(count)
    done = 0
    for chunk in source.frames(span, plan.size, pixel_format=plan.output_format.frame_format) if count else ():
        on_progress(Progress("footage", done, count))
        done += len(chunk)
        yield chunk


def source_sound(source: SourceReader, plan: Plan, on_progress: OnProgress) -> Samples | None:
    """Returns the sound of the source frames that the output shows, [2, n] at SOUND_RATE Hz.

    The sound lasts exactly as long as these frames do in the output. If the output plays them faster or slower than the
    source, the tempo of the sound changes, too. If it plays them backwards, the sound is reversed.

    Returns None if the source has no sound or the output shows none of its frames. `on_progress` is called at the start
    and after every 20 s of sound.
    """
    if not plan.shown_frames:
        return None
    span = plan.context
    samples = source.sound(
        Fraction(span.start) / span.rate,
        Fraction(span.stop) / span.rate,
        report=lambda done, total: on_progress(Progress("context sound", done // SOUND_RATE, total // SOUND_RATE)),
    )
    if samples is None:
        return None
    if span.reverse:
        samples = sound.reverse(samples)
    length = sound.num_samples(plan.shown_frames, plan.rate)
    return stretch(samples, plan.speed, length, lambda: on_progress(Progress("context sound", 1, 1)))


def end_image(picture: NDArray[np.uint8] | None, plan: Plan) -> RGBFrames | None:
    """Returns the pixels of a job's end image as the model sees it, [H, W, 3]; None if the job has none.

    The image is scaled and cropped to the output's size, encoded with H.264 and decoded again. So it has the losses of
    a compressed video frame, as the pictures on which the model was trained.

    picture: the end image as it was read, [H, W, 3].
    """
    if picture is None:
        return None
    covering = ImageOps.fit(Image.fromarray(picture), plan.size)
    image: RGBFrames = compress(np.asarray(covering)[None], IMAGE_CRF)[0]
    return image
