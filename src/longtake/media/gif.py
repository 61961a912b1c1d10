"""Writes animated GIFs. All frames are first stored in a temporary file, so that one palette can be made for all."""

import itertools
import math
import shutil
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from longtake.media.formats import OutputFormat
from longtake.media.planes import Planes
from longtake.video import Check

_TICKS_PER_S = 100
"""GIF stores times in hundredths of a second."""

_SHORTEST_TICKS = 2
"""Shortest duration of a frame in ticks. Players show a frame of one tick for 1/10 s, as if it had no duration."""

_DITHER = "dither=bayer:bayer_scale=5:diff_mode=rectangle"
"""FFmpeg's least visible dither. Frames are dithered only where they change."""

_HEAD_BYTES, _FLAGS, _HAS_COLOURS = 13, 10, 0x80
"""The number of bytes of a GIF's header, the index of the byte with its flags, and the flag that is set if a table of
colours follows. The table has 2 ** (n + 1) colours, where n are the lowest three bits of the flags."""

_COMMENT = b"\x21\xfe"
"""The bytes with which a comment in a GIF begins."""

_PALETTE_FRAMES = 16
"""Largest number of frames from which the palette is made."""

_PALETTE_WIDTH = 320
"""Width in pixels to which wider frames are scaled down before the palette is made."""


class GifWriter:
    """Writes RGB frames, each uint8 [height, width, 3], to the GIF file `path`. Sound is dropped.

    Frames that are wider than `output_format.max_width` are scaled down. If `rate` (frames per second) is above
    `output_format.max_rate`, frames are left out. The start time of each frame is rounded to 1/100 s; the rounding
    errors do not add up, so the GIF is as long as the video. Until `finish` is called, the frames are stored in an
    unnamed temporary file in the folder of `path`. `comment` is a text that is stored in the file; empty for none.
    """

    def __init__(
        self, path: Path, output_format: OutputFormat, width: int, height: int, rate: Fraction, *, comment: str = ""
    ) -> None:
        assert output_format.palette is not None
        self._path = path
        self._comment = comment
        self._palette = output_format.palette
        self._width, self._height = fit_width(width, height, output_format.max_width)
        self._rate = rate
        self._step = Fraction(1) if output_format.max_rate is None else max(Fraction(1), rate / output_format.max_rate)
        self._num_received = self._num_stored = 0
        self._reformatter = VideoReformatter()
        self._spool = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 - open until `finish` or `discard`

    def add_frame(self, planes: Planes) -> None:
        if self._num_received == math.floor(self._num_stored * self._step):
            self._spool.write(self._shrink(planes).tobytes())
            self._num_stored += 1
        self._num_received += 1

    def add_sound(self, samples: NDArray[np.float32]) -> None:
        pass

    def finish(self, check: Check) -> None:
        """Writes the GIF from the stored frames. `check` is called before each frame, and can cancel by raising an
        error."""
        with self._spool:
            self._paint(self._make_palette(), check)
        if self._comment:
            _insert_comment(self._path, self._comment)

    def discard(self) -> None:
        self._spool.close()
        self._path.unlink(missing_ok=True)

    def _shrink(self, frame: Planes) -> Planes:
        if frame.shape[:2] == (self._height, self._width):
            return frame
        picture = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(frame))
        small = self._reformatter.reformat(
            picture, self._width, self._height, interpolation=Interpolation.AREA | Interpolation.ACCURATE_RND
        )
        return small.to_ndarray().astype(np.uint8, copy=False)

    def _pixels(self, index: int) -> NDArray[np.uint8]:
        size = self._width * self._height * 3
        self._spool.seek(index * size)
        return np.frombuffer(self._spool.read(size), np.uint8).reshape(self._height, self._width, 3)

    def _pictures(self, indices: range | list[int]) -> Iterator[Any]:
        for index in indices:
            picture = av.VideoFrame.from_ndarray(self._pixels(index))
            picture.pts, picture.time_base = self._start_tick(index), Fraction(1, _TICKS_PER_S)
            yield picture

    def _start_tick(self, index: int) -> int:
        """Returns the start time of stored frame `index` in 1/100 s."""
        return round(index * self._step / self._rate * _TICKS_PER_S)

    def _last_duration(self) -> int:
        """Returns the duration of the last stored frame in 1/100 s."""
        end = round(self._num_received / self._rate * _TICKS_PER_S)
        return max(_SHORTEST_TICKS, end - self._start_tick(self._num_stored - 1))

    def _make_palette(self) -> Any:
        count = min(self._num_stored, _PALETTE_FRAMES)
        spread = [index * self._num_stored // count for index in range(count)]
        graph = av.filter.Graph()
        width, height = fit_width(self._width, self._height, _PALETTE_WIDTH)
        source = graph.add_buffer(
            width=self._width, height=self._height, format="rgb24", time_base=Fraction(1, _TICKS_PER_S)
        )
        sink = graph.add("buffersink")
        graph.link_nodes(
            source,
            graph.add("scale", f"{width}:{height}:flags=area"),
            graph.add("palettegen", f"max_colors={self._palette.colours}"),
            sink,
        ).configure()
        for picture in self._pictures(spread):
            source.push(picture)
        source.push(None)
        return sink.pull()

    def _paint(self, palette: Any, check: Check) -> None:
        graph = av.filter.Graph()
        clock = Fraction(1, _TICKS_PER_S)
        source = graph.add_buffer(width=self._width, height=self._height, format="rgb24", time_base=clock)
        colours = graph.add_buffer(width=palette.width, height=palette.height, format="bgra", time_base=clock)
        use = graph.add("paletteuse", _DITHER)
        sink = graph.add("buffersink")
        source.link_to(use, 0, 0)
        colours.link_to(use, 0, 1)
        use.link_to(sink)
        graph.configure()
        palette.pts, palette.time_base = 0, clock
        colours.push(palette)
        colours.push(None)

        options = {"loop": "0", "final_delay": str(self._last_duration())}
        with av.open(str(self._path.absolute()), "w", format="gif", container_options=options) as file:
            stream = file.add_stream("gif", rate=self._rate / self._step)
            stream.width, stream.height, stream.pix_fmt = self._width, self._height, "pal8"
            stream.codec_context.time_base = clock
            shown: Any = None
            indices = itertools.count()
            for picture in itertools.chain(self._pictures(range(self._num_stored)), [None]):
                check()
                source.push(picture)
                for painted in _pulled(sink):
                    shown = _held(painted, shown, self._pixels(next(indices)), self._palette.tolerance)
                    shown.time_base = clock
                    file.mux(stream.encode(shown))
            file.mux(stream.encode(None))


def _insert_comment(path: Path, comment: str) -> None:
    """Adds a comment to a finished GIF, because FFmpeg writes none.

    The comment is inserted before the first frame. If it came after the last frame, FFmpeg would read a wrong duration
    of that frame.
    """
    content = comment.encode()
    blocks = [content[start : start + 255] for start in range(0, len(content), 255)]
    with path.open("rb") as plain, tempfile.TemporaryFile(dir=path.parent) as commented:
        head = plain.read(_HEAD_BYTES)
        flags = head[_FLAGS]
        colours = plain.read(3 << (flags & 7) + 1 if flags & _HAS_COLOURS else 0)
        commented.write(head + colours + _COMMENT)
        commented.writelines(bytes([len(block)]) + block for block in blocks)
        commented.write(b"\0")
        shutil.copyfileobj(plain, commented)
        commented.seek(0)
        with path.open("wb") as file:
            shutil.copyfileobj(commented, file)


def _held(painted: Any, before: Any, picture: NDArray[np.uint8], tolerance: int) -> Any:
    """Returns the frame `painted`, but its pixels that hardly change keep the colours that they have in `before`.

    This makes the file smaller.

    painted: the frame in the colours of the palette.
    before: the frame before `painted`, as this function returned it; None for the first frame, which is returned
        unchanged.
    picture: the same frame as `painted` with the exact colours, [H, W, 3].
    tolerance: a pixel gets its colour in `before` if this colour's distance from the exact one is at most this number
        of RGB codes. With 0, `painted` is returned unchanged.
    """
    if before is None or not tolerance:
        return painted
    height, width, _ = picture.shape
    wanted, shown = (_rows(frame.planes[0])[:, :width] for frame in (painted, before))
    colours = np.frombuffer(painted.planes[1], np.uint8).reshape(-1, 4)[:, 2::-1].astype(np.int32)
    error = ((picture - colours[shown]) ** 2).sum(axis=2)
    held = av.VideoFrame(width, height, "pal8")
    rows = np.zeros((height, held.planes[0].line_size), np.uint8)
    rows[:, :width] = np.where(error <= tolerance**2, shown, wanted)
    held.planes[0].update(rows)
    held.planes[1].update(painted.planes[1])
    held.pts = painted.pts
    return held


def _rows(plane: Any) -> NDArray[np.uint8]:
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)


def fit_width(width: int, height: int, max_width: int | None) -> tuple[int, int]:
    """Returns (width, height), scaled down in proportion if `width` is above `max_width` pixels.

    If `max_width` is None, nothing is scaled.
    """
    if max_width is None or width <= max_width:
        return width, height
    return max_width, max(1, round(height * max_width / width))


def _pulled(sink: Any) -> Iterator[Any]:
    """Yields the frames that a filter graph has finished so far. `sink` is the last filter of the graph."""
    while True:
        try:
            yield sink.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
