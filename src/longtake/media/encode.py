"""Frames and sound into a file while the next frames are being made; the file appears whole or not at all."""

import contextlib
import os
import queue
import secrets
import threading
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from longtake.errors import InvalidRequest
from longtake.media.formats import SOUND_RATE, OutputFormat
from longtake.media.gif import GifWriter
from longtake.media.movie import Check, Frame, MovieWriter

_POLL_S = 0.05


class _Writer(Protocol):
    """A file in the making, used by the encoder's thread alone."""

    def add_frame(self, frame: Frame) -> None: ...
    def add_sound(self, samples: NDArray[np.float32]) -> None: ...
    def finish(self, check: Check) -> None: ...
    def discard(self) -> None: ...


@dataclass(frozen=True)
class _Frames:
    data: Frame


@dataclass(frozen=True)
class _Samples:
    data: NDArray[np.float32]


class _Abandoned(Exception):
    """The caller left with an exception: stop, and keep nothing."""


class Encoder:
    """Writes a video to `path` in its own thread: `with Encoder(...) as video: video.write(chunk)`.

    At most three chunks are alive: one being made by the caller, one waiting, one being encoded. A chunk is read
    after `write` has returned, so it must not be changed. At the normal end of the `with` block the file is
    complete under its name; after any exception, `Cancelled` too, there is no file and no thread.

    `rate` is in frames per second, exact. `sound_rate` None makes a silent file; else the sound track has
    exactly `num_samples(num_frames, rate)` samples: what is missing is silence, what is over is dropped. Write
    sound before or beside its pictures where possible: encoded pictures wait in memory for sound that comes late.
    A output_format without sound (GIF) drops it.

    `check` is called 20 times a second while the caller waits for the codec, at the end too, where a large GIF may
    take minutes; it stops the encoding by raising.

    Raises `InvalidRequest` where the output_format cannot hold a picture of that size.
    """

    def __init__(
        self,
        path: Path,
        output_format: OutputFormat,
        width: int,
        height: int,
        rate: Fraction,
        *,
        sound_rate: int | None = SOUND_RATE,
        check: Check = lambda: None,
    ) -> None:
        if output_format.even and (width % 2 or height % 2):
            raise InvalidRequest(
                f"{output_format.suffix} files need an even width and height; {width}x{height} was given, "
                f"{width + width % 2}x{height + height % 2} would do.",
                value={"width": width, "height": height},
            )
        if sound_rate is not None and output_format.sound is not None and sound_rate != output_format.sound.rate:
            raise ValueError(f"Sound must come at {output_format.sound.rate} Hz, not {sound_rate}.")
        self.path = path
        self.num_frames = 0
        self._recipe = output_format
        self._shape = (height, width, 3)
        self._rate = rate
        self._with_sound = sound_rate is not None
        self._check = check
        self._partial = path.with_name(f".longtake-{secrets.token_hex(8)}.part")
        self._queue: queue.Queue[_Frames | _Samples | None] = queue.Queue(maxsize=1)
        self._abandoned = threading.Event()
        self._ended = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"encode {path.name}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._abandon()
            return
        try:
            self._put(None)
            while self._thread.is_alive():
                self._check()
                self._thread.join(_POLL_S)
            self._raise_error()
            os.replace(self._partial, self.path)
        except BaseException:
            self._abandon()
            raise

    def write(self, frames: Frame) -> None:
        """Add frames [t, H, W, 3], RGB, uint8 or uint16 of full range. Blocks while a chunk is waiting.

        Raises the error of the encoder's thread, whichever chunk caused it.
        """
        if frames.ndim != 4 or frames.shape[1:] != self._shape or frames.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"Frames must be [t, {self._shape}] uint8 or uint16, not {frames.shape} {frames.dtype}.")
        self._put(_Frames(frames))
        self.num_frames += len(frames)

    def write_sound(self, samples: NDArray[np.float32]) -> None:
        """Add samples [2, n], float32 in -1..1, after those already written. Any time before the end."""
        if samples.ndim != 2 or samples.shape[0] != 2 or samples.dtype != np.float32:
            raise ValueError(f"Sound must be [2, n] float32, not {samples.shape} {samples.dtype}.")
        if not self._with_sound:
            raise ValueError("This file was opened without sound.")
        self._put(_Samples(samples))

    def _put(self, item: _Frames | _Samples | None) -> None:
        if not self._thread.is_alive():
            raise RuntimeError("The encoder is not open.")
        while True:
            self._raise_error()
            with contextlib.suppress(queue.Full):
                self._queue.put(item, timeout=_POLL_S)
                return self._raise_error()
            self._check()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _abandon(self) -> None:
        self._abandoned.set()
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        self._partial.unlink(missing_ok=True)

    def _run(self) -> None:
        try:
            self._encode()
        except _Abandoned:
            pass
        except BaseException as error:
            self._error = error
        while not self._ended:  # The caller may wait for room in the queue: let it on, to see the error.
            self._take()

    def _take(self) -> _Frames | _Samples | None:
        item = self._queue.get()
        self._ended = item is None
        return item

    def _encode(self) -> None:
        writer = self._open()
        try:
            while (item := self._take()) is not None:
                if isinstance(item, _Samples):
                    writer.add_sound(item.data)
                    continue
                for frame in item.data:
                    self._stop_if_abandoned()
                    writer.add_frame(frame)
            self._stop_if_abandoned()
            if not self.num_frames:
                raise ValueError("No frame was written.")
            writer.finish(self._stop_if_abandoned)
        except BaseException:
            writer.discard()
            raise

    def _stop_if_abandoned(self) -> None:
        if self._abandoned.is_set():
            raise _Abandoned

    def _open(self) -> _Writer:
        height, width, _ = self._shape
        if self._recipe.palette is not None:
            return GifWriter(self._partial, self._recipe, width, height, self._rate)
        return MovieWriter(self._partial, self._recipe, width, height, self._rate, with_sound=self._with_sound)
