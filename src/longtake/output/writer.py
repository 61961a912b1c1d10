"""Writes frames and sound to the output file, in reverse order if the plan plays the video backwards."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from longtake.media.encode import Encoder
from longtake.media.formats import SOUND_RATE, PixelFormat
from longtake.media.planes import Planes, RGBPicture, frame_shape, frame_type, from_rgb
from longtake.media.reversed_frames import ReversedFrames
from longtake.media.sound import Samples
from longtake.plans import Plan
from longtake.video import Check, OnProgress, Progress

CHUNK_FRAMES = 16
"""The number of frames that are read back from disk together when the video is reversed."""


@dataclass
class ProgressRelay:
    """A progress callback that passes each report on to `on_progress`, and can pass the last report on again.

    A job is cancelled by an exception that `on_progress` raises. During long waits without a new report, the encoder
    calls `repeat`, so that the job can be cancelled then, too.

    last: the last report.
    """

    on_progress: OnProgress
    last: Progress = field(default_factory=lambda: Progress("context", 0, 1))

    def __call__(self, progress: Progress) -> None:
        self.last = progress
        self.on_progress(progress)

    def repeat(self) -> None:
        """Passes the last report to `on_progress` once more."""
        self.on_progress(self.last)


class VideoWriter(Protocol):
    """Takes the frames and the sound of the output file. Each call adds its frames or samples after the earlier ones.

    If the plan plays the video backwards, the writer reverses the order later; callers need not.
    """

    def write(self, frames: RGBPicture) -> None:
        """Adds new frames: RGB [t, H, W, 3], uint8 in 0..255 or uint16 in 0..65535."""

    def write_source(self, frames: Planes, check: Check) -> None:
        """Adds source frames in the output's `frame_format`. They are encoded as they are.

        `check` is called again and again while this function waits for the encoder. It may raise an exception.
        """

    def write_sound(self, samples: Samples) -> None:
        """Adds samples [2, n] in -1..1 at SOUND_RATE Hz. They are ignored if the output has no sound."""


@contextmanager
def video_writer(
    path: Path, plan: Plan, *, has_sound: bool, progress: ProgressRelay, comment: str = "", ahead_bytes: int = 0
) -> Iterator[VideoWriter]:
    """Yields a writer for the output file, for use in a `with` block.

    The complete file is at `path` when the block ends; after an exception there is no file. If the plan plays the video
    backwards, the frames are collected on disk and written in reverse order at the end of the block.

    plan: gives the format, the size and the frame rate of the file.
    has_sound: False writes a file without sound.
    progress: receives the progress of the reversal. Its `repeat` is called during long waits for the encoder, so that
        the job can be cancelled then.
    comment: the comment in the file; empty for none.
    ahead_bytes: the number of bytes of frames and sound that may wait for the encoder (see `Encoder`).
    """
    rate = SOUND_RATE if has_sound else None
    output_format = plan.output_format
    frame_format = output_format.frame_format
    with Encoder(
        path,
        output_format,
        plan.width,
        plan.height,
        plan.rate,
        sound_rate=rate,
        check=progress.repeat,
        comment=comment,
        ahead_bytes=ahead_bytes,
    ) as encoder:
        if not plan.reversed_at_end:
            yield _ForwardWriter(encoder, has_sound)
            return
        shape = frame_shape(frame_format, plan.width, plan.height)
        with ReversedFrames(path.parent, shape, frame_type(frame_format)) as spool:
            writer = _ReversedWriter(spool, frame_format)
            yield writer
            if has_sound:
                for samples in reversed(writer.samples):
                    encoder.write_sound(samples[:, ::-1])  # not copied, because it may be long
            for chunk in spool.chunks(CHUNK_FRAMES):
                progress(Progress("reversing", encoder.num_frames, plan.num_frames))
                encoder.write_planes(chunk)


@dataclass(frozen=True)
class _ForwardWriter:
    encoder: Encoder
    has_sound: bool

    def write(self, frames: RGBPicture) -> None:
        self.encoder.write(frames)

    def write_source(self, frames: Planes, check: Check) -> None:
        self.encoder.write_planes(frames, check)

    def write_sound(self, samples: Samples) -> None:
        if self.has_sound and samples.shape[1]:
            self.encoder.write_sound(samples)


@dataclass(frozen=True)
class _ReversedWriter:
    """A VideoWriter that only collects frames and sound. `video_writer` later encodes them in reverse order.

    spool: stores the frames on disk.
    frame_format: pixel format of the output, in which the frames are stored.
    samples: pieces of the sound so far, in memory.
    """

    spool: ReversedFrames
    frame_format: PixelFormat
    samples: list[Samples] = field(default_factory=list)

    def write(self, frames: RGBPicture) -> None:
        self.spool.write(np.stack([from_rgb(picture, self.frame_format) for picture in frames]))

    def write_source(self, frames: Planes, check: Check) -> None:
        check()
        self.spool.write(frames)

    def write_sound(self, samples: Samples) -> None:
        self.samples.append(samples)
