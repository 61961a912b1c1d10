"""Writes frames and sound to the output file, in reverse order if the plan plays the video backwards."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from longtake.media import sound
from longtake.media.encode import Encoder
from longtake.media.formats import SOUND_RATE
from longtake.media.reversed_frames import ReversedFrames
from longtake.media.sound import Samples
from longtake.output.source_frames import Pixels
from longtake.plans import Plan
from longtake.video import OnProgress, Progress

CHUNK_FRAMES = 16
"""The number of frames that are read back from disk together when the video is reversed."""


@dataclass
class ProgressRelay:
    """Passes progress on to `on_progress` and remembers the last report.

    The encoder calls `repeat` during long waits. That calls `on_progress` with the last report, so a job can be
    cancelled during these waits too: `on_progress` raises an exception.
    """

    on_progress: OnProgress
    last: Progress = field(default_factory=lambda: Progress("context", 0, 1))

    def __call__(self, progress: Progress) -> None:
        self.last = progress
        self.on_progress(progress)

    def repeat(self) -> None:
        """Reports the last progress once more."""
        self.on_progress(self.last)


class VideoWriter(Protocol):
    """Takes frames and sound in the order in which they are made."""

    def write(self, frames: Pixels) -> None:
        """Adds frames [t, H, W, 3], uint8 in 0..255 or floats in 0..1."""

    def write_sound(self, samples: Samples) -> None:
        """Adds samples [2, n] in -1..1 at SOUND_RATE. They are ignored if the output has no sound."""


@contextmanager
def video_writer(path: Path, plan: Plan, *, has_sound: bool, progress: ProgressRelay) -> Iterator[VideoWriter]:
    """Yields a writer for the output file. The complete file is at `path` when the block ends; after an exception there
    is no file.

    With `has_sound` False the file has no sound. If the plan plays the video backwards, the frames are collected on
    disk and reversed at the end of the block.
    """
    rate = SOUND_RATE if has_sound else None
    output_format = plan.output_format
    deep = output_format.pix_fmt.endswith("10le")
    with Encoder(
        path, output_format, plan.width, plan.height, plan.rate, sound_rate=rate, check=progress.repeat
    ) as encoder:
        if not plan.reversed_at_end:
            yield _ForwardWriter(encoder, has_sound, deep)
            return
        dtype = np.uint16 if deep else np.uint8
        with ReversedFrames(path.parent, plan.height, plan.width, dtype) as spool:
            writer = _ReversedWriter(spool, deep)
            yield writer
            if has_sound:
                encoder.write_sound(sound.reverse(np.concatenate(writer.samples, axis=1)))
            for chunk in spool.chunks(CHUNK_FRAMES):
                progress(Progress("reversing", encoder.num_frames, plan.num_frames))
                encoder.write(chunk)


@dataclass(frozen=True)
class _ForwardWriter:
    encoder: Encoder
    has_sound: bool
    deep: bool

    def write(self, frames: Pixels) -> None:
        self.encoder.write(as_integers(frames, deep=self.deep))

    def write_sound(self, samples: Samples) -> None:
        if self.has_sound and samples.shape[1]:
            self.encoder.write_sound(samples)


@dataclass(frozen=True)
class _ReversedWriter:
    """Collects frames on disk and sound in memory, because the last frame is to be played first."""

    spool: ReversedFrames
    deep: bool
    samples: list[Samples] = field(default_factory=list)

    def write(self, frames: Pixels) -> None:
        self.spool.write(as_integers(frames, deep=self.deep))

    def write_sound(self, samples: Samples) -> None:
        self.samples.append(samples)


def as_integers(frames: Pixels, *, deep: bool) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Returns frames [t, H, W, 3] as integers of full range: uint16 in 0..65535 if `deep`, otherwise uint8 in 0..255.

    `deep` is for output files of more than 8 bits per channel. `frames` are uint8 in 0..255 or floats in 0..1.
    """
    if frames.dtype == np.uint8:
        return frames.astype(np.uint16) * 257 if deep else frames.astype(np.uint8, copy=False)
    return np.rint(frames * 65_535).astype(np.uint16) if deep else np.rint(frames * 255).astype(np.uint8)
