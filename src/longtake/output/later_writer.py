"""Holds back new frames and sound until the source's frames are written, so that the model need not wait for these."""

from collections import deque
from collections.abc import Callable
from functools import partial

from longtake.host_memory import host_memory
from longtake.media.planes import RGBPicture
from longtake.media.sound import Samples
from longtake.output.background import Background
from longtake.output.writer import VideoWriter
from longtake.video import OnProgress

MOST_AHEAD_BYTES = 1024**3
"""The most bytes of new frames that may wait to be written. It is less where a sixteenth of the host's memory is less.

1 GiB is 388 frames of 1280x720 with 8 bits.
"""


def most_ahead_bytes() -> int:
    """Returns how many bytes of new frames may wait to be written, so that the device need not wait for the encoder."""
    memory = host_memory()
    return MOST_AHEAD_BYTES if memory is None else min(MOST_AHEAD_BYTES, memory.total // 16)


class LaterWriter:
    """Adds new frames and sound to the output file behind the source's frames, which a thread writes.

    writer: takes the frames and the sound of the output file.
    source: the thread that writes the source's frames.
    max_bytes: the number of bytes of frames and sound that may be held back while the thread works. With more, the
        caller waits until the thread has ended. With 0 it always waits.
    on_progress: receives the progress of the thread while the caller waits.
    """

    def __init__(self, writer: VideoWriter, source: Background, max_bytes: int, on_progress: OnProgress) -> None:
        self._writer = writer
        self._source = source
        self._max_bytes = max_bytes
        self._on_progress = on_progress
        self._num_bytes = 0
        self._held: deque[Callable[[], None]] = deque()

    def write(self, frames: RGBPicture) -> None:
        """Adds new frames: RGB [t, H, W, 3], uint8 in 0..255 or uint16 in 0..65535."""
        self._add(partial(self._writer.write, frames), frames.nbytes)

    def write_sound(self, samples: Samples) -> None:
        """Adds samples [2, n] in -1..1 at SOUND_RATE Hz."""
        # They may be a part of the sound of the whole source, which would stay in memory with them.
        self._add(partial(self._writer.write_sound, samples.copy()), samples.nbytes)

    def flush(self) -> None:
        """Waits until the source is written, and then writes all that was held back. Raises the error of the thread
        that writes the source, if that has failed."""
        self._source.wait(self._on_progress)
        while self._held:
            self._held.popleft()()
        self._num_bytes = 0

    def _add(self, write: Callable[[], None], num_bytes: int) -> None:
        self._held.append(write)
        self._num_bytes += num_bytes
        if self._num_bytes > self._max_bytes or not self._source.is_running:
            self.flush()
