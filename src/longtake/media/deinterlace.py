"""Deinterlacing with FFmpeg's bwdif filter: one progressive frame for each interlaced frame."""

from collections import deque
from collections.abc import Iterator
from typing import Any

import av


def deinterlaced(frames: Iterator[Any]) -> Iterator[Any]:
    """Yields the frames with the lines of their second field interpolated; progressive frames are unchanged.

    The filter uses both neighbours of a frame, so the first frame after a seek differs from that of a full decode.
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
    """Yields the frames that the filter has finished, with their input times (its own clock ticks twice as fast)."""
    while True:
        try:
            frame = graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        frame.pts = times.popleft()
        yield frame
