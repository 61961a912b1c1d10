"""Stored frames by number, in either direction: a seek to the keyframe before them, then no more than it takes."""

from bisect import bisect_right
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import chain, groupby
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from longtake.errors import UnsupportedVideo
from longtake.media import webp
from longtake.media.deinterlace import deinterlaced
from longtake.media.picture import Developer
from longtake.media.probe import Film, decoded, decoder_of, opened, shown_packets, video_stream
from longtake.video import Span

_BLOCK_BYTES = 192 << 20
_CHUNK_BYTES = 128 << 20


def frames(film: Film, span: Span, size: tuple[int, int] | None, chunk: int) -> Iterator[NDArray[np.uint8]]:
    """The span's pictures in its order, in arrays [t <= chunk, height, width, 3]; a chunk never exceeds 128 MiB."""
    width, height = size or (film.facts.width, film.facts.height)
    bytes_each = width * height * 3
    chunk = max(1, min(chunk, _CHUNK_BYTES // bytes_each))
    gathered: list[NDArray[np.uint8]] = []
    for picture in _pictures(film, film.timeline.stored(span), Developer(film.look, size), bytes_each):
        gathered.append(picture)
        if len(gathered) == chunk:
            yield np.stack(gathered)
            gathered.clear()
    if gathered:
        yield np.stack(gathered)


def _pictures(film: Film, numbers: list[int], developer: Developer, bytes_each: int) -> Iterator[NDArray[np.uint8]]:
    """The pictures of rising or falling stored `numbers`; repeated numbers repeat the picture."""
    if numbers[0] <= numbers[-1]:
        runs = [numbers]
    else:
        block = max(1, _BLOCK_BYTES // bytes_each)
        runs = list(_backward_runs(film, numbers, block))
    for run in runs:
        rising = run if run[0] <= run[-1] else run[::-1]
        wanted = set(rising)
        if rising is run:
            repeats = {number: sum(1 for _ in same) for number, same in groupby(run)}
            for number, frame in stored_frames(film, rising[0], rising[-1]):
                if number in wanted:
                    picture = developer.develop(frame)
                    for _ in range(repeats[number]):
                        yield picture
        else:
            kept = {n: developer.develop(f) for n, f in stored_frames(film, rising[0], rising[-1]) if n in wanted}
            for number in run:
                yield kept[number]


def _backward_runs(film: Film, numbers: list[int], block: int) -> Iterator[list[int]]:
    """Falling numbers cut at keyframes and into blocks of at most `block` pictures, each decoded forwards."""
    key_numbers = sorted({_number_at(film, key) for key in film.keys})
    for _, group in groupby(numbers, key=lambda number: bisect_right(key_numbers, number)):
        run = list(group)
        for start in range(0, len(run), block):
            yield run[start : start + block]


def _number_at(film: Film, time: int) -> int:
    return max(0, bisect_right(film.timeline.pts, time) - 1)


def stored_frames(film: Film, first: int, last: int) -> Iterator[tuple[int, Any]]:
    """Decoded frames `first` to `last` (both included) with their numbers, each once, rising.

    Decoding starts at the keyframe before `first`. If that gives too late or damaged frames (open GOP, a bad index),
    it starts one keyframe earlier, at last at the beginning. Raises UnsupportedVideo where frames are missing.
    """
    pts = film.timeline.pts
    # bwdif looks at the frame before, too.
    lead = max(0, first - 1) if film.look.interlaced else first
    keys = list(film.keys[: bisect_right(film.keys, pts[lead])])
    while True:
        key = keys.pop() if keys else None
        with closing(_from(film, key)) as run:
            start = _first_good(run, lead, first, certain=key is None)
            if start is None and key is not None:
                continue
            reached = first
            for number, frame in chain([start], run) if start else ():
                if number > reached:
                    break
                if number == reached:
                    yield number, frame
                    reached += 1
                if reached > last:
                    return
        raise UnsupportedVideo(
            f"The video breaks off: frames {first} to {last} were needed, "
            f"and frame {reached} could not be read ({reached - first} of {last - first + 1} could)."
        )


def _first_good(run: Iterator[tuple[int, Any]], lead: int, first: int, certain: bool) -> tuple[int, Any] | None:
    """Frame `first` of a run that reached it by way of `lead`; damaged or too late ones do only where `certain`."""
    led = certain
    for number, frame in run:
        led = led or number <= lead
        if number > first or not led:
            return None
        if number == first:
            return (number, frame) if certain or not frame.is_corrupt else None
    return None


def _from(film: Film, key: int | None) -> Generator[tuple[int, Any], None, None]:
    """(number, frame) of everything that decodes from the keyframe at `key` (None: from the beginning of the file)."""
    if film.container == "webp":
        yield from enumerate(frame for frame, _ in webp.pictures(film.path))
        return
    with opened(film.path, film.container) as media:
        stream = video_stream(media)
        decoder = decoder_of(stream, film.limits)
        if key is not None:
            try:
                media.seek(key, stream=stream, backward=True)
            except av.FFmpegError:
                return
        packets = shown_packets(media, stream)
        if key is not None:
            packets = _from_keyframe(packets)
        frames_out = decoded(packets, decoder)
        if film.look.interlaced:
            frames_out = deinterlaced(frames_out)
        if film.counted:
            yield from enumerate(frames_out)
            return
        numbers = {time: number for number, time in enumerate(film.timeline.pts)}
        for frame in frames_out:
            number = numbers.get(frame.pts)
            if number is not None:
                yield number, frame


def _from_keyframe(packets: Iterator[Any]) -> Iterator[Any]:
    started = False
    for packet in packets:
        started = started or packet.is_keyframe
        if started:
            yield packet
