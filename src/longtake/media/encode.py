"""Encodes frames and sound to a video file in a background thread. Only a complete file appears under its name."""

import contextlib
import queue
import secrets
import threading
from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from longtake.errors import InvalidRequest
from longtake.media.formats import SOUND_RATE, OutputFormat, PixelFormat
from longtake.media.gif import GifWriter
from longtake.media.movie import MovieWriter
from longtake.media.planes import Planes, RGBPicture, frame_shape, frame_type, from_rgb
from longtake.threads import start
from longtake.video import Check, no_check

_POLL_S = 0.05
"""Seconds between two calls of the callback `check` (see Encoder) while the caller waits for the encoder's thread."""


class _Writer(Protocol):
    """An open output file, to which the encoder's thread adds frames and sound. No other thread uses it."""

    def add_frame(self, planes: Planes) -> None: ...
    def add_sound(self, samples: NDArray[np.float32]) -> None: ...
    def finish(self, check: Check) -> None: ...
    def discard(self) -> None: ...


class _Item(Protocol):
    """Frames or sound that wait in the queue of the encoding thread to be added to the file."""

    @property
    def data(self) -> NDArray[Any]: ...

    def add_to(self, writer: _Writer, check: Check) -> None:
        """Adds the frames or the sound to the file that `writer` has opened.

        `check` is called before each frame. It can cancel the encoding by raising an exception.
        """


@dataclass(frozen=True)
class _Frames:
    """Frames that wait in the queue of the encoding thread, as arrays in the file's pixel format (see
    formats.PixelFormat)."""

    data: Planes

    def add_to(self, writer: _Writer, check: Check) -> None:
        for frame in self.data:
            check()
            writer.add_frame(frame)


@dataclass(frozen=True)
class _Pictures:
    """RGB frames [t, H, W, 3] that wait in the encoder's queue. The encoder's thread converts them to `frame_format`,
    the file's pixel format."""

    data: RGBPicture
    frame_format: PixelFormat

    def add_to(self, writer: _Writer, check: Check) -> None:
        for picture in self.data:
            check()
            writer.add_frame(from_rgb(picture, self.frame_format))


@dataclass(frozen=True)
class _Samples:
    """Stereo samples [2, n] that wait in the queue of the encoding thread."""

    data: NDArray[np.float32]

    def add_to(self, writer: _Writer, check: Check) -> None:
        writer.add_sound(self.data)


class _WaitingItems(queue.Queue[_Item | None]):
    """A queue of frames and sound that is full if these have at least `maxsize` bytes. None, the end, has no bytes."""

    def _init(self, maxsize: int) -> None:
        self._items: deque[_Item | None] = deque()
        self._num_bytes = 0

    def _qsize(self) -> int:
        return max(self._num_bytes, len(self._items))

    def _put(self, item: _Item | None) -> None:
        self._items.append(item)
        self._num_bytes += 0 if item is None else item.data.nbytes

    def _get(self) -> _Item | None:
        item = self._items.popleft()
        self._num_bytes -= 0 if item is None else item.data.nbytes
        return item


class _Abandoned(Exception):
    """Ends the encoder's thread, in which it is raised. The reason is an exception in the encoder's `with` block, or
    one that the callback `check` has raised to cancel the work."""


class Encoder:
    """Encodes a video to `path` in a background thread: `with Encoder(...) as video: video.write(chunk)`.

    When the `with` block ends, the complete file is at `path`. If the block or the encoder raises, there is no new
    file.

    The `write` methods only put a chunk into a queue, so the caller must not change it afterwards. While the queue is
    full, these methods block until the encoder takes a chunk.

    output_format: the file's format and the encoder's settings.
    width, height: size of the frames in pixels.
    rate: frames per second.
    sound_rate: sample rate of the sound in Hz, or None for a file without sound. It must be the output format's rate
        (48 kHz). The sound track becomes exactly as long as the frames: missing samples are silent, surplus ones are
        dropped. A GIF drops all samples. Encoded frames wait in memory for their sound, so write the sound of a frame
        before the frame or soon after it.
    check: callback that can cancel the encoding by raising an exception. It is called 20 times a second while the
        caller waits for the encoder, also at the end of the `with` block, where a large GIF can take minutes.
    comment: the comment in the file, at most 60,000 bytes in UTF-8 (tags.MOST_COMMENT_BYTES); empty for none.
    ahead_bytes: the queue takes chunks until they have so many bytes. With 0 it holds one chunk.

    The attribute `num_frames` is the number of frames written so far.

    Raises InvalidRequest if the format needs an even size and `width` or `height` is odd, and ValueError for a
    `sound_rate` that the format does not have.
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
        check: Check = no_check,
        comment: str = "",
        ahead_bytes: int = 0,
    ) -> None:
        if output_format.needs_even_size and (width % 2 or height % 2):
            raise InvalidRequest(
                f"{output_format.suffix} files need an even width and height; {width}x{height} was given, "
                f"{width + width % 2}x{height + height % 2} would do.",
                value={"width": width, "height": height},
            )
        if sound_rate is not None and output_format.sound is not None and sound_rate != output_format.sound.rate:
            raise ValueError(f"Sound must come at {output_format.sound.rate} Hz, not {sound_rate}.")
        self.path = path
        self.num_frames = 0
        self._format = output_format
        self._size = width, height
        self._rate = rate
        self._with_sound = sound_rate is not None
        self._check = check
        self._comment = comment
        self._partial = path.with_name(f".longtake-{secrets.token_hex(8)}.part")
        self._queue = _WaitingItems(max(1, ahead_bytes))
        self._abandoned = threading.Event()
        self._ended = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"encode {path.name}", daemon=True)

    def __enter__(self) -> Self:
        start(self._thread)
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
            # Unlike `atomic.replacing`, this leaves the file with the user's default permissions.
            self._partial.replace(self.path)
        except BaseException:
            self._abandon()
            raise

    def write_planes(self, frames: Planes, check: Check | None = None) -> None:
        """Appends frames that are already in the output format's `frame_format` (see formats.PixelFormat).

        `check`: called again and again while this function waits for the encoder. It may raise an exception to end the
            waiting. None means the function that the constructor got for this.

        Raises ValueError for another shape or dtype. If the encoder's thread has failed, its error is raised.
        """
        shape, dtype = frame_shape(self._format.frame_format, *self._size), frame_type(self._format.frame_format)
        if frames.shape[1:] != shape or frames.dtype != dtype:
            raise ValueError(f"Frames must be [t, {shape}] {np.dtype(dtype)}, not {frames.shape} {frames.dtype}.")
        self._put(_Frames(frames), check)
        self.num_frames += len(frames)

    def write(self, frames: RGBPicture) -> None:
        """Appends RGB frames [t, H, W, 3], uint8 (0..255) or uint16 (0..65535).

        Raises ValueError for another shape or dtype. If the encoder's thread has failed, perhaps with an earlier chunk,
        its error is raised.
        """
        shape = (self._size[1], self._size[0], 3)
        if frames.ndim != 4 or frames.shape[1:] != shape or frames.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"Frames must be [t, {shape}] uint8 or uint16, not {frames.shape} {frames.dtype}.")
        self._put(_Pictures(frames, self._format.frame_format))
        self.num_frames += len(frames)

    def write_sound(self, samples: NDArray[np.float32]) -> None:
        """Appends stereo samples [2, n], float32 in -1..1, at `sound_rate` (48 kHz).

        Raises ValueError for another shape or dtype, or if `sound_rate` is None. If the encoder's thread has failed,
        its error is raised.
        """
        if samples.ndim != 2 or samples.shape[0] != 2 or samples.dtype != np.float32:
            raise ValueError(f"Sound must be [2, n] float32, not {samples.shape} {samples.dtype}.")
        if not self._with_sound:
            raise ValueError("This file was opened without sound.")
        self._put(_Samples(samples))

    def _put(self, item: _Item | None, check: Check | None = None) -> None:
        if not self._thread.is_alive():
            raise RuntimeError("The encoder is not open.")
        while True:
            self._raise_error()
            with contextlib.suppress(queue.Full):
                self._queue.put(item, timeout=_POLL_S)
                return self._raise_error()
            (check or self._check)()

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
        # The caller may be blocked because the queue is full. Emptying the queue lets it continue and see the error.
        while not self._ended:
            self._next_item()

    def _next_item(self) -> _Item | None:
        item = self._queue.get()
        self._ended = item is None
        return item

    def _encode(self) -> None:
        writer = self._open()
        try:
            while (item := self._next_item()) is not None:
                item.add_to(writer, self._stop_if_abandoned)
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
        if self._format.palette is not None:
            return GifWriter(self._partial, self._format, *self._size, self._rate, comment=self._comment)
        return MovieWriter(
            self._partial, self._format, *self._size, self._rate, with_sound=self._with_sound, comment=self._comment
        )
