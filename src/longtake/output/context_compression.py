"""Compresses the frames that the model sees while others are read, and while the device does other work."""

from collections.abc import Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Self

from longtake.media.crf import compress_arriving
from longtake.media.planes import RGBFrames
from longtake.plans import Plan
from longtake.threads import Pool


class _NotNeeded(Exception):
    """The work must end, because its result is not needed any more."""


class ContextCompression:
    """A context manager that compresses the context's frames in a thread. At the end of its block the work is stopped.

    The attribute `frames` will have the compressed frames, [T, H, W, 3]; it is None if the plan compresses none.
    """

    def __init__(self, plan: Plan) -> None:
        self._pool = Pool(1)
        self._chunks = SimpleQueue[RGBFrames | None]()
        self._is_stopped = False
        self.frames: Future[RGBFrames] | None = None
        if plan.context_crf and plan.context_frames:
            shape = plan.context_frames, plan.height, plan.width, 3
            self.frames = self._pool.submit(compress_arriving, self._arriving(), shape, plan.context_crf)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_stopped = True
        self._chunks.put(None)
        self._pool.shutdown()

    def add(self, frames: RGBFrames) -> None:
        """Adds the next frames of the context, [t, H, W, 3], and returns at once."""
        self._chunks.put(frames)

    def _arriving(self) -> Iterator[RGBFrames]:
        """Yields the frames one by one, [H, W, 3], as soon as they are added."""
        while (chunk := self._chunks.get()) is not None:
            for frame in chunk:
                if self._is_stopped:
                    break
                yield frame
        raise _NotNeeded
