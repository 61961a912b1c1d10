"""The result while it is written: frames and sound in the order they are made, reversed where the plan says so."""

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
from longtake.media.join import ReversedFrames
from longtake.media.sound import Samples
from longtake.output.source_frames import Pixels
from longtake.plans import Plan
from longtake.video import OnProgress, Progress

CHUNK_FRAMES = 16
"""Frames that are read back at once where the video is reversed."""


@dataclass
class ProgressRelay:
    """Passes progress on, and can repeat the last of it, so that a listener can cancel long waits, too."""

    on_progress: OnProgress
    last: Progress = field(default_factory=lambda: Progress("context", 0, 1))

    def __call__(self, progress: Progress) -> None:
        self.last = progress
        self.on_progress(progress)

    def again(self) -> None:
        self.on_progress(self.last)


class VideoWriter(Protocol):
    """Takes frames [t, H, W, 3], uint8 or floats in 0..1, and sound [2, n] in the order they are made."""

    def write(self, frames: Pixels) -> None: ...
    def write_sound(self, samples: Samples) -> None: ...


@contextmanager
def video_writer(path: Path, plan: Plan, *, has_sound: bool, progress: ProgressRelay) -> Iterator[VideoWriter]:
    """A writer whose file appears at `path` when the block ends, whole or not at all."""
    rate = SOUND_RATE if has_sound else None
    recipe = plan.recipe
    deep = recipe.pix_fmt.endswith("10le")
    with Encoder(path, recipe, plan.width, plan.height, plan.rate, sound_rate=rate, check=progress.again) as encoder:
        if not plan.reversed_at_end:
            yield _Straight(encoder, has_sound, deep)
            return
        dtype = np.uint16 if deep else np.uint8
        with ReversedFrames(path.parent, plan.height, plan.width, dtype) as spool:
            backwards = _Backwards(spool, deep)
            yield backwards
            if has_sound:
                encoder.write_sound(sound.reverse(np.concatenate(backwards.samples, axis=1)))
            for chunk in spool.chunks(CHUNK_FRAMES):
                progress(Progress("reversing", encoder.num_frames, plan.num_frames))
                encoder.write(chunk)


@dataclass(frozen=True)
class _Straight:
    encoder: Encoder
    has_sound: bool
    deep: bool

    def write(self, frames: Pixels) -> None:
        self.encoder.write(integers(frames, self.deep))

    def write_sound(self, samples: Samples) -> None:
        if self.has_sound and samples.shape[1]:
            self.encoder.write_sound(samples)


@dataclass(frozen=True)
class _Backwards:
    """Keeps frames on the disk and sound in memory until the end is known."""

    spool: ReversedFrames
    deep: bool
    samples: list[Samples] = field(default_factory=list)

    def write(self, frames: Pixels) -> None:
        self.spool.write(integers(frames, self.deep))

    def write_sound(self, samples: Samples) -> None:
        self.samples.append(samples)


def integers(frames: Pixels, deep: bool) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Frames as full-range integers: of 16 bits where the file keeps more than 8 (`deep`), else of 8, untouched where
    they are already. Floats are in 0..1."""
    if frames.dtype == np.uint8:
        return frames.astype(np.uint16) * 257 if deep else frames.astype(np.uint8, copy=False)
    return np.rint(frames * 65_535).astype(np.uint16) if deep else np.rint(frames * 255).astype(np.uint8)
