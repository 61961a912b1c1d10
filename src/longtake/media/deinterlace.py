"""Interlaced frames made whole: FFmpeg's bwdif, one frame out for each frame in."""

from collections import deque
from collections.abc import Iterator
from typing import Any

import av


def deinterlaced(frames: Iterator[Any]) -> Iterator[Any]:
    """The frames with the lines of their second field interpolated; frames not marked interlaced pass as they are.

    Each frame needs its neighbours, so the first one after a seek is not what a full decode gives.
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
    """What the filter gives now; its own clock runs twice as fast, so times are those of the frames put in."""
    while True:
        try:
            frame = graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        frame.pts = times.popleft()
        yield frame
