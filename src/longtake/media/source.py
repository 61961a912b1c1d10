"""A video file as its facts, its frames and its sound, read by a child process that alone touches the bytes."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longtake.media.sandbox import Child, Limits, running
from longtake.media.sniff import sniff
from longtake.video import SoundInfo, Span, VideoInfo

__all__ = ["Limits", "SourceReader", "open_source"]

_SOUND_BLOCK_S = 20


class SourceReader:
    """An open source. `facts` is what is known of it; frames and sound are read as asked for, near what is asked."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._numbers = count()
        self._left: list[int] = []
        header, _ = child.ask({"do": "facts"})
        self.facts = _facts(header["facts"])

    def frames(
        self, span: Span, size: tuple[int, int] | None = None, *, chunk: int = 16
    ) -> Iterator[NDArray[np.uint8]]:
        """The span's frames in its order as RGB arrays [t <= chunk, height, width, 3].

        `size` (width, height) scales to cover and crops the centre; at the source's own size pixels stay untouched.
        At a rate other than the source's the nearest frame is shown. Raises UnsupportedVideo where frames are missing
        and InvalidRequest where the span leaves the video.
        """
        clock = [span.start, span.stop, span.rate.as_integer_ratio(), span.reverse]
        return self._chunks({"do": "begin_frames", "span": clock, "size": size, "chunk": chunk})

    def sound(self, start_s: Fraction, stop_s: Fraction, rate: int = 48_000) -> NDArray[np.float32] | None:
        """Stereo [2, round((stop_s - start_s) * rate)] of that stretch, in -1..1; None where the source has no sound.

        Time 0 is the first frame's; before, between and behind what is stored there is silence.
        """
        if self.facts.sound is None:
            return None
        first, total = round(start_s * rate), round((stop_s - start_s) * rate)
        samples = np.zeros((2, total), np.float32)
        reached = 0
        for block in self._chunks(
            {"do": "begin_sound", "first": first, "stop": first + total, "rate": rate, "block": _SOUND_BLOCK_S * rate}
        ):
            samples[:, reached : reached + block.shape[1]] = block
            reached += block.shape[1]
        return samples

    def _chunks(self, question: dict[str, Any]) -> Iterator[NDArray[Any]]:
        number = next(self._numbers)
        left, self._left = self._left, []
        self._child.ask(question | {"stream": number, "left": left})
        return self._rest(number)

    def _rest(self, number: int) -> Iterator[NDArray[Any]]:
        try:
            while True:
                _, chunk = self._child.ask({"do": "next", "stream": number})
                if chunk is None:
                    return
                yield chunk
        finally:
            # Only noted: this may run in the garbage collector, in the middle of another question.
            self._left.append(number)


@contextmanager
def open_source(path: Path, *, limits: Limits = Limits()) -> Iterator[SourceReader]:  # noqa: B008
    """Opens a local video file in a child process of its own, which ends with the block.

    Raises UnsupportedVideo, VideoTooLarge, VideoTooLong.
    """
    container = sniff(path)
    with running("longtake.media.child", {"path": str(path.resolve()), "container": container}, limits) as child:
        yield SourceReader(child)


def _facts(told: dict[str, Any]) -> VideoInfo:
    sound = SoundInfo(**told["sound"]) if told["sound"] else None
    return VideoInfo(**told | {"rate": Fraction(*told["rate"]), "sound": sound})
