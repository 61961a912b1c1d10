"""What is known of a video: the facts of a source, a range of its frames, and the progress of work on it."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

Transfer = Literal["sdr", "pq", "hlg"]


@dataclass(frozen=True)
class SoundInfo:
    """The sound of a source, as stored: `rate` in Hz, `layout` in FFmpeg's names (mono, stereo, 5.1)."""

    rate: int
    channels: int
    layout: str


@dataclass(frozen=True)
class VideoInfo:
    """A probed video.

    `width, height` are those a viewer sees: after rotation, mirroring and pixel aspect. `rate` is exact, and
    `num_frames` counts frames on the constant clock of that rate: for a variable-rate file the frames shown at
    n / rate, else the stored ones.
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
    """Frames [start, stop) of a source on the clock of `rate`, in that order or backwards."""

    start: int
    stop: int
    rate: Fraction
    reverse: bool = False

    def __len__(self) -> int:
        return self.stop - self.start

    def tail(self, count: int) -> "Span":
        """The last `count` frames in playing order: those next to the joint."""
        if self.reverse:
            return Span(self.start, self.start + count, self.rate, True)
        return Span(self.stop - count, self.stop, self.rate)


@dataclass(frozen=True)
class Progress:
    """Where the work stands: `stage` by name, step `step` of `steps`, window `window` of `windows` (from 1)."""

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
"""What people read of each stage; the first word of `Progress.stage` names it."""

OnProgress = Callable[[Progress], None]
"""Told of every step; it cancels the work by raising `Cancelled`."""


def ignore_progress(_: Progress) -> None:
    """The listener of whoever does not listen."""
