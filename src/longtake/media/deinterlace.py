"""Deinterlaces frames with FFmpeg's bwdif filter, which makes one progressive frame of each interlaced frame."""

from collections import deque
from collections.abc import Iterator
from itertools import chain, groupby, islice
from typing import Any

import av


def deinterlaced(frames: Iterator[Any]) -> Iterator[Any]:
    """Yields PyAV's video frames, deinterlaced. Frames that are not marked as interlaced are unchanged.

    The first field of each interlaced frame (every other line) is not changed. The lines of the second field stay as
    they are where nothing moves. Where something moves, they are interpolated from the first field and from the frames
    before and after this frame.

    The result for the first frame is less exact where something moves, because no frame before it is known.
    """
    for _, alike in groupby(frames, key=lambda frame: (frame.width, frame.height, frame.format.name)):
        yield from _filtered(alike)


def _filtered(frames: Iterator[Any]) -> Iterator[Any]:
    """Yields `frames` deinterlaced. All of them have the same size and pixel format."""
    # Without a frame before the first one, the filter would interpolate the whole first frame. So it receives one more
    # frame before that, whose result is dropped: a copy of the second frame, or of the first if there is no second.
    first = next(frames)
    second = next(frames, None)
    following = () if second is None else (second,)
    yield from islice(_through(_graph(first), chain([second or first, first], following, frames)), 1, None)


def _through(graph: av.filter.Graph, frames: Iterator[Any]) -> Iterator[Any]:
    """Passes frames through the filter `graph`. Yields each result with the timestamp of its input frame.

    The timestamps that the filter writes are not used, because their ticks are half as long as those of the input.
    """
    times: deque[int | None] = deque()
    for frame in frames:
        times.append(frame.pts)
        graph.vpush(frame)
        yield from _ready(graph, times)
    graph.vpush(None)
    yield from _ready(graph, times)


def _graph(frame: Any) -> av.filter.Graph:
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base),
        graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced"),
        graph.add("buffersink"),
    ).configure()
    return graph


def _ready(graph: av.filter.Graph, times: deque[int | None]) -> Iterator[Any]:
    """Yields the frames that the filter `graph` has finished, each with its timestamp.

    `times` holds the timestamps of the frames that are in the filter, the oldest first. Those of the yielded frames are
    removed from it.
    """
    while True:
        try:
            frame = graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        frame.pts = times.popleft()
        yield frame
