"""Facts about a video file, ranges of its frames, and progress reports."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

Transfer = Literal["sdr", "pq", "hlg"]
"""Transfer function: standard dynamic range, or one of the two HDR curves (SMPTE ST 2084, ARIB STD-B67)."""


@dataclass(frozen=True)
class SoundInfo:
    """A file's sound as stored: `rate` in Hz, `layout` by its FFmpeg name (mono, stereo, 5.1)."""

    rate: int
    channels: int
    layout: str


@dataclass(frozen=True)
class VideoInfo:
    """Facts about a video file.

    `width` and `height` are in pixels as displayed, after rotation, mirroring and pixel aspect. `rate` is the exact
    number of frames per second. `num_frames` counts stored frames; for a variable-rate file it counts the frames shown
    on a constant clock of `rate`. `rotation` is in degrees. `sound` is None for a silent file.
    """

    container: str
    codec: str
    width: int
    height: int
    rate: Fraction
    num_frames: int
    variable_rate: bool = False
    rotation: int = 0
    mirrored: bool = False
    interlaced: bool = False
    bit_depth: int = 8
    transfer: Transfer = "sdr"
    alpha: bool = False
    sound: SoundInfo | None = None

    @property
    def duration_s(self) -> float:
        return float(self.num_frames / self.rate)


@dataclass(frozen=True)
class Span:
    """Frames [start, stop) of a video sampled at `rate` frames per second; played backwards if `reverse`."""

    start: int
    stop: int
    rate: Fraction
    reverse: bool = False

    def __len__(self) -> int:
        return self.stop - self.start

    def tail(self, count: int) -> "Span":
        """Returns the last `count` frames in playing order."""
        if self.reverse:
            return Span(self.start, self.start + count, self.rate, True)
        return Span(self.stop - count, self.stop, self.rate)


@dataclass(frozen=True)
class Progress:
    """Progress of a job: step `step` (from 0) of `steps` in `stage`, window `window` (from 1) of `windows`."""

    stage: str
    step: int
    steps: int
    window: int = 1
    windows: int = 1


STAGES = {
    "load": "Loading the model",
    "context": "Reading the source",
    "footage": "Writing the source",
    "prompt": "Reading the prompt",
    "sound": "Decoding the sound",
    "sampling": "Sampling new frames",
    "frames": "Decoding and encoding",
    "reversing": "Writing backwards",
    "fetch": "Fetching",
}
"""Stage -> its name for users. The key is the first word of `Progress.stage`."""

OnProgress = Callable[[Progress], None]
"""Callback for every step of a job. It cancels the job by raising an exception."""


def ignore_progress(_: Progress) -> None:
    """Does nothing; the default progress callback."""
