"""Deinterlaces frames with FFmpeg's bwdif filter, which makes one progressive frame of each interlaced frame."""

from collections import deque
from collections.abc import Iterator
from typing import Any

import av


def deinterlaced(frames: Iterator[Any]) -> Iterator[Any]:
    """Yields PyAV's video frames, deinterlaced. Progressive frames are unchanged.

    The filter keeps the first field of a frame and interpolates the lines of the second one, also from the frames
    before and after. The first frame has no frame before it, so its result differs from the result for the same frame
    within a longer sequence.
    """
    graph: av.filter.Graph | None = None
    times: deque[int | None] = deque()
    for frame in frames:
        graph = graph or _graph(frame)
        times.append(frame.pts)
        graph.vpush(frame)
        yield from _ready(graph, times)
    if graph is not None:
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
    """Yields the frames that the filter `graph` has finished.

    Each frame gets the next timestamp from `times`, the timestamps of the input frames. They replace the filter's own
    timestamps, which count ticks of half the length.
    """
    while True:
        try:
            frame = graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        frame.pts = times.popleft()
        yield frame
