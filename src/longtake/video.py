"""Facts about a video file, ranges of its frames, and reports on the progress of a job."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction


@dataclass(frozen=True)
class SoundInfo:
    """The sound as it is stored in a file.

    rate: samples per second (Hz) of each channel.
    channels: number of channels.
    layout: FFmpeg's name of the channel layout, such as mono, stereo or 5.1.
    track: number of the track among the file's sound tracks, from 1.
    """

    rate: int
    channels: int
    layout: str
    track: int = 1


@dataclass(frozen=True)
class VideoInfo:
    """Facts about a video file.

    container: one of `sniff.CONTAINERS`.
    codec: FFmpeg's name of the video codec.
    width, height: size in pixels of the displayed picture, after rotation and scaling to square pixels.
    rate: exact number of frames per second. A file with a variable rate is read at this constant rate.
    num_frames: number of frames at `rate`. It differs from the number of stored frames only if the rate is variable.
    sound: facts about the sound track that is read; None if the file has none that can be decoded.
    notes: sentences for the user about what cannot be read, and about transparent parts.
    delays_s: sum of the frames' delays in seconds, which an animated picture (GIF, WebP) stores; None for other files.
    sound_notes: sentences for the user about sound that cannot be decoded, is not used, or is mixed to stereo.
    stored_frames: number of stored frames if the rate is variable; None if each of the `num_frames` frames is stored.
    """

    container: str
    codec: str
    width: int
    height: int
    rate: Fraction
    num_frames: int
    sound: SoundInfo | None = None
    notes: tuple[str, ...] = ()
    delays_s: Fraction | None = None
    sound_notes: tuple[str, ...] = ()
    stored_frames: int | None = None

    @property
    def duration_s(self) -> float:
        """Seconds from the first frame to the end of the last one."""
        return float(self.num_frames / self.rate if self.delays_s is None else self.delays_s)


def counted_seconds(num_frames: int, rate: Fraction) -> Fraction:
    """Returns the duration in seconds that is compared with the limit for sources.

    It is the time that `num_frames` frames at `rate` frames per second last, minus one frame (at most one second). A
    video that is read at a constant rate may be up to one frame longer than its file says, and is not refused for that.
    """
    return num_frames / rate - min(1 / rate, Fraction(1))


@dataclass(frozen=True)
class Span:
    """A range of frames of a video that is sampled at `rate` frames per second.

    start, stop: number of the first frame, and of the one after the last.
    reverse: True if the range is played from its last frame to its first.
    shift: seconds that are added to the time at which each frame is taken from the video: frame n shows the video's
        picture at the time (n + 1/2) / `rate` + `shift`.
    """

    start: int
    stop: int
    rate: Fraction
    reverse: bool = False
    shift: Fraction = Fraction(0)

    def __len__(self) -> int:
        return self.stop - self.start

    def head(self, count: int) -> "Span":
        """Returns the range of the first `count` frames in playing order. `count` must not exceed the length."""
        return self._last(count) if self.reverse else self._first(count)

    def tail(self, count: int) -> "Span":
        """Returns the range of the last `count` frames in playing order. `count` must not exceed the length."""
        return self._first(count) if self.reverse else self._last(count)

    def _first(self, count: int) -> "Span":
        return replace(self, stop=self.start + count)

    def _last(self, count: int) -> "Span":
        return replace(self, start=self.stop - count)


@dataclass(frozen=True)
class Progress:
    """A report on the progress of a job.

    stage: a key of STAGES, perhaps followed by a blank and a detail ("load transformer").
    step, steps: number of finished steps and number of all steps of the stage. Each stage has its own unit, such as
        frames.
    window, windows: new frames are generated in windows (groups of frames that are sampled together), one after the
        other. `window` is the number of the present one, from 1, and `windows` the number of all.
    pass_number, passes: a window is sampled in one or more passes (runs through the sampling steps). `pass_number` is
        the number of the present one, from 1, and `passes` the number of all.
    """

    stage: str
    step: int
    steps: int
    window: int = 1
    windows: int = 1
    pass_number: int = 1
    passes: int = 1

    @property
    def kind(self) -> str:
        """The first word of `stage`, such as "load" for "load transformer". This word is a key of STAGES."""
        return self.stage.split()[0]

    @property
    def title(self) -> str:
        """The stage as text for people, such as "Loading the model"."""
        return STAGES.get(self.kind, self.kind.capitalize())

    @property
    def share(self) -> float:
        """The share of the stage that is finished, 0..1. All windows count the same, and so do all passes. Most
        stages have one of each.
        """
        of_pass = self.step / max(self.steps, 1)
        of_window = (self.pass_number - 1 + of_pass) / self.passes
        return min((self.window - 1 + of_window) / self.windows, 1.0)


STAGES = {
    "libraries": "Loading the libraries",
    "waiting": "Waiting for the device",
    "load": "Loading the model",
    "context": "Reading the source",
    "footage": "Writing the source",
    "prompt": "Reading the prompt",
    "encode": "Encoding the frames to continue",
    "sound": "Decoding the sound",
    "sampling": "Sampling new frames",
    "frames": "Decoding new frames",
    "writing": "Writing new frames",
    "reversing": "Writing backwards",
    "fetch": "Fetching",
}
"""First word of `Progress.stage` -> the name of the stage for users."""

OnProgress = Callable[[Progress], None]
"""Callback that is called at each step of a job. It can cancel the job by raising an exception."""


Check = Callable[[], None]
"""A function without arguments that long work calls again and again. It raises an exception to cancel the work."""

CHECK_EVERY_S = 0.25
"""Seconds between two calls of a `Check` (a function that can cancel the work) while the caller waits."""


def no_check() -> None:
    """Does nothing. The default `Check` (a function that can cancel work by raising an exception): it never cancels."""


def ignore_progress(_: Progress) -> None:
    """The default progress callback. Does nothing."""


def in_window(on_progress: OnProgress, window: int, windows: int) -> OnProgress:
    """Returns a callback that sets `window` and `windows` in a copy of each report and calls `on_progress` with it.

    window: number of the present window, from 1.
    windows: number of all windows.
    """
    return lambda progress: on_progress(replace(progress, window=window, windows=windows))
