"""Reads a range of a video's frames, forwards or backwards. Decoding starts at the keyframe before the range."""

import math
from bisect import bisect_right
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from functools import cached_property
from itertools import chain, groupby
from types import TracebackType
from typing import Any, Self

import av
import numpy as np

from longtake.errors import UnsupportedVideo
from longtake.media import webp
from longtake.media.convert import FrameConverter
from longtake.media.deinterlace import deinterlaced
from longtake.media.formats import PixelFormat
from longtake.media.packets import shown_packets
from longtake.media.planes import Planes, frame_shape, frame_type
from longtake.media.probe import ProbedVideo, decoded, decoder_of, opened, video_stream
from longtake.video import Span

BACKWARD_BYTES = 192 << 20
"""Maximum size in bytes of the decoded frames in memory while a video is read backwards."""

_BACKWARD_FRAMES = 1024
"""Maximum number of decoded frames in memory while a video is read backwards. Of small frames, the limit in bytes would
allow so many that decoding them would delay the first returned one for long."""


MOST_PIXELS_AGAIN = 3 * 10**12
"""Largest number of pixels of the frames that are decoded again while a video is read backwards. Decoding so many takes
hours."""


def frames(
    video: ProbedVideo, span: Span, size: tuple[int, int] | None, chunk: int, pixel_format: PixelFormat = "rgb24"
) -> Iterator[Planes]:
    """Yields a range of a video's frames in playing order, as arrays of several frames.

    span: the range, its frame rate, and True in `span.reverse` if it is played backwards.
    size: (width, height) in pixels. The frames are scaled to cover it and cropped at the centre. None means the video's
        own size.
    chunk: number of frames in each array but the last.
    pixel_format: the format of the arrays (see formats.PixelFormat).

    Raises UnsupportedVideo if a frame cannot be decoded, or if the video has too few keyframes to be read backwards.
    """
    bytes_each = math.prod(frame_shape(pixel_format, *(size or (video.facts.width, video.facts.height))))
    bytes_each *= np.dtype(frame_type(pixel_format)).itemsize
    converter = FrameConverter(video.picture, size, pixel_format)
    pictures: list[Planes] = []
    for picture in _pictures(video, video.timeline.stored(span), converter, bytes_each):
        pictures.append(picture)
        if len(pictures) == chunk:
            yield np.stack(pictures)
            pictures.clear()
    if pictures:
        yield np.stack(pictures)


def _pictures(video: ProbedVideo, numbers: list[int], converter: FrameConverter, bytes_each: int) -> Iterator[Planes]:
    """Yields the stored frames with the indices `numbers`, in this order, each converted to an array by `converter`.

    numbers: indices in the order of the file, rising or falling. A repeated index repeats the picture.
    bytes_each: size of one converted frame in bytes. If `numbers` are falling, it decides how many frames are in memory
        at a time: as many as fit into BACKWARD_BYTES, but at most 1024.
    """
    if numbers[0] <= numbers[-1]:
        runs = [numbers]
    else:
        block = max(1, min(_BACKWARD_FRAMES, BACKWARD_BYTES // bytes_each))
        keyframes = sorted({_number_at(video, time) for time in video.keyframe_times}) or [0]
        runs = list(_backward_runs(keyframes, numbers, block))
        _check_work(video, keyframes, runs)
    with FrameFile(video) as file:
        for run in runs:
            rising = run if run[0] <= run[-1] else run[::-1]
            wanted = set(rising)
            if rising is run:
                repeats = {number: sum(1 for _ in same) for number, same in groupby(run)}
                for number, frame in stored_frames(file, rising[0], rising[-1]):
                    if number in wanted:
                        picture = converter.convert(frame)
                        for _ in range(repeats[number]):
                            yield picture
            else:
                frames = stored_frames(file, rising[0], rising[-1])
                pictures = {number: converter.convert(frame) for number, frame in frames if number in wanted}
                yield from (pictures[number] for number in run)


def _backward_runs(keyframes: list[int], numbers: list[int], block: int) -> Iterator[list[int]]:
    """Splits `numbers`, indices of stored frames in falling order, into runs of at most `block` indices.

    keyframes: the indices of the keyframes, in rising order.

    Decoding always starts at a keyframe. So the frames from one keyframe to the next stay in one run, and each frame is
    decoded only once. They are split only if there are more than `block` of them.
    """
    run: list[int] = []
    for _, group in groupby(numbers, key=lambda number: bisect_right(keyframes, number)):
        frames = list(group)
        if run and len(run) + len(frames) > block:
            yield run
            run = []
        run += frames
        while len(run) > block:
            yield run[:block]
            run = run[block:]
    if run:
        yield run


def _check_work(video: ProbedVideo, keyframes: list[int], runs: list[list[int]]) -> None:
    """Raises UnsupportedVideo if too many frames would be decoded more than once to read a video backwards.

    Each run is decoded from the last keyframe before it, so a video with few keyframes is decoded again and again.

    keyframes: the indices of the keyframes, in rising order.
    runs: lists of frame indices, each in falling order. The frames of a run are decoded and kept in memory together.
    """
    starts = (keyframes[max(0, bisect_right(keyframes, run[-1]) - 1)] for run in runs)
    decoded_frames = sum(run[0] + 1 - start for run, start in zip(runs, starts, strict=True))
    again = decoded_frames - len({number for run in runs for number in run})
    if again * video.facts.width * video.facts.height > MOST_PIXELS_AGAIN:
        raise UnsupportedVideo(
            f"The video has too few keyframes ({len(keyframes)}) to be played backwards: {decoded_frames} frames would "
            f"have to be decoded to show {decoded_frames - again}. Encode it with a keyframe every few seconds."
        )


def _number_at(video: ProbedVideo, time: int) -> int:
    return max(0, bisect_right(video.timeline.pts, time) - 1)


class FrameFile:
    """Decodes a video file from any of its keyframes, again and again, without opening the file each time.

    The first call of `decoded_from` opens the file, and the end of the `with` block closes it. Only one iterator of
    `decoded_from` can be used at a time.

    video: the probed file.
    """

    def __init__(self, video: ProbedVideo) -> None:
        self.video = video
        self._opening = ExitStack()
        self._media: Any = None
        self._decoder: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opening.close()

    def decoded_from(self, key: int | None) -> Generator[tuple[int, Any], None, None]:
        """Yields (index, frame) for the stored frames from a keyframe to the end of the file.

        `key` is the keyframe's time in ticks of the video stream; None means the beginning of the file.
        """
        video = self.video
        if video.container == "webp":
            yield from enumerate(frame for frame, _ in webp.pictures(video.file))
            return
        if key is None or self._media is None:
            self._open()
        stream = video_stream(self._media)
        if key is not None:
            try:
                self._media.seek(key, stream=stream, backward=True)
            except av.FFmpegError:
                return
            self._decoder.flush_buffers()
        packets = shown_packets(self._media, stream)
        if key is not None:
            packets = _from_keyframe(packets, None if video.has_timestamps else key)
        frames = decoded(packets, self._decoder)
        if video.picture.interlaced:
            frames = deinterlaced(frames)
        if not video.has_timestamps:
            yield from enumerate(frames, 0 if key is None else _number_at(video, key))
            return
        for frame in frames:
            number = self._numbers.get(frame.pts)
            if number is not None:
                yield number, frame

    def _open(self) -> None:
        """Opens the file at its beginning. If it is already open, it is closed first."""
        self._opening.close()
        self._media = self._opening.enter_context(opened(self.video.file, self.video.container))
        self._decoder = decoder_of(video_stream(self._media), self.video.limits)

    @cached_property
    def _numbers(self) -> dict[int, int]:
        """Presentation time of each stored frame, in ticks of the video stream -> index of the frame."""
        return {time: number for number, time in enumerate(self.video.timeline.pts)}


def stored_frames(file: FrameFile, first: int, last: int) -> Iterator[tuple[int, Any]]:
    """Yields (index, decoded frame) for the stored frames with the indices `first` to `last`, both included.

    Raises UnsupportedVideo if one of these frames cannot be decoded.
    """
    video = file.video
    pts = video.timeline.pts
    # The deinterlacing filter also needs the frame before `first`.
    lead = max(0, first - 1) if video.picture.interlaced else first
    # Decoding starts at the last keyframe up to `lead`. If frame `first` cannot be decoded from there, because of an
    # open GOP or a wrong index in the file, decoding starts again at each earlier keyframe in turn, and finally at the
    # beginning of the file.
    keys = list(video.keyframe_times[: bisect_right(video.keyframe_times, pts[lead])])
    while True:
        key = keys.pop() if keys else None
        with closing(file.decoded_from(key)) as run:
            start = _start(run, lead, first, accept_any=key is None)
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
        second = float((pts[reached] - pts[0]) * video.timeline.tick_s)
        raise UnsupportedVideo(
            f"The video is damaged: frames {first} to {last} were needed, and frame {reached} could not be read "
            f"({reached - first} of {last - first + 1} could). Cut the video at {second:.2f} s and use one part."
        )


def _start(run: Iterator[tuple[int, Any]], lead: int, first: int, accept_any: bool) -> tuple[int, Any] | None:
    """Returns the frame with the index `first` from `run`, as (index, frame). Later frames stay in `run`.

    Returns None if decoding must start earlier in the file, because `run` does not contain the frame, begins after
    `lead`, or has a damaged frame.

    run: yields (index, decoded frame) with rising indices.
    lead: index of the frame at which decoding must begin, at the latest: `first`, or the frame before it if a
        deinterlacing filter needs that one to make frame `first`.
    first: index of the wanted frame.
    accept_any: True if decoding cannot start earlier. Then only a frame that `run` does not contain gives None.
    """
    has_lead = accept_any
    for number, frame in run:
        has_lead = has_lead or number <= lead
        if number > first or not has_lead:
            return None
        if number == first:
            return (number, frame) if accept_any or not frame.is_corrupt else None
    return None


def _from_keyframe(packets: Iterator[Any], time: int | None) -> Iterator[Any]:
    """Yields the packets from a keyframe on. Yields nothing if there is no such keyframe.

    time: presentation time of the keyframe in the packets' ticks; None for the first keyframe.
    """
    started = False
    for packet in packets:
        started = started or (packet.is_keyframe and time in (None, packet.pts))
        if started:
            yield packet
