"""Reads the times of a video stream's packets: which frames a file has, and where decoding can start."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av

from longtake.errors import UnsupportedVideo, VideoTooLong
from longtake.media.shared_file import Openable, size_of
from longtake.media.sniff import TS_PACKETS

_VP8_SHOWN = 0x10
"""The bit in the first byte of a VP8 frame that is set if the frame is shown (RFC 6386, 9.1)."""

_H264_IDR = re.compile(rb"\x00\x00\x01[\x05\x25\x45\x65]")
"""Matches the start of an H.264 IDR picture (NAL unit type 5; ITU-T H.264, 7.4.1).

No frame that is stored after such a picture needs a frame that is stored before it to be decoded.
"""

_LEAST_LOSS_S = Fraction(1, 10)
"""A file counts as cut off if its packets end at least this many seconds, and at least one and a half frames, before
the end that the file states."""


_DURATION_TAG = re.compile(r"(\d+):(\d\d):(\d\d\.\d+)$")
"""Matches the value of the tag DURATION of a Matroska track, such as 00:00:02.000000000 (hours, minutes, seconds)."""


@dataclass(frozen=True)
class FrameTimes:
    """The times of a stream's frames, in ticks of the stream.

    pts: presentation times of all frames in rising order; None if a frame has no time or two have the same. If the file
        is cut off, these are only the times before the first missing frame.
    keyframe_times: presentation times of the frames at which decoding can start, in rising order.
    restart_times: those of `keyframe_times` whose keyframe is an IDR picture of H.264. All frames that are stored
        before such a keyframe are shown before it, and all that are stored after it are shown after it.
    last_duration: duration of the last packet; 0 if unknown.
    rising: True if the presentation times rise from packet to packet, in the order in which packets are stored.
    stated_end: None if the file is complete. If it is cut off, the time at which the last frame of the complete file
        would end, as the file states it. If the file does not state it, the end of the last frame that is left.
    """

    pts: list[int] | None
    keyframe_times: tuple[int, ...]
    restart_times: tuple[int, ...]
    last_duration: int
    rising: bool
    stated_end: int | None


@dataclass(frozen=True)
class _Packet:
    """A packet of a video stream. Times are in ticks of the stream.

    pts, dts: presentation time and decoding time; None if unknown.
    duration: 0 if unknown.
    is_shown: False if its frame is not shown, because an edit list cuts it off or because it only serves other frames.
    is_key: True if decoding can start at this packet.
    is_restart: True if this is an H.264 packet with an IDR picture. Frames of earlier packets are then shown before its
        frame, and frames of later packets after it.
    """

    pts: int | None
    dts: int | None
    duration: int
    is_shown: bool
    is_key: bool
    is_restart: bool


def shown_packets(media: Any, stream: Any) -> Iterator[Any]:
    """Yields the packets of `stream` that have data, up to the end of the file or the first read error.

    `media` is the open file in PyAV. A truncated file usually ends with a read error.
    """
    packets = media.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.FFmpegError):
            return
        if packet.size:
            yield packet


def frame_times(media: Any, stream: Any, container: str, file: Openable, max_frames: int) -> FrameTimes:
    """Returns the times of the frames of `stream`, read from all its packets; nothing is decoded.

    media: the open file in PyAV.
    container: the file's container, such as mp4: one of `sniff.CONTAINERS`.
    file: the file itself.

    Raises UnsupportedVideo if there is no whole frame, VideoTooLong if there are more than `max_frames` frames.
    """
    packets = _packets(media, stream, max_frames)
    shown = [packet for packet in packets if packet.is_shown]
    if not shown:
        raise UnsupportedVideo("The file has a video stream without a single whole frame; it is empty or cut off.")
    known = [packet.pts for packet in shown if packet.pts is not None]
    pts = sorted(known) if len(shown) == len(set(known)) else None
    cut, stated_end = _cut(media, stream, container, file, shown) if pts else (None, None)
    if pts and cut is not None:
        pts = [time for time in pts if time < cut] or pts[:1]
    keys = [packet for packet in packets if packet.is_key and packet.pts is not None] if pts else []
    return FrameTimes(
        pts=pts,
        keyframe_times=tuple(sorted(packet.pts for packet in keys if packet.pts is not None)),
        restart_times=tuple(sorted(packet.pts for packet in keys if packet.pts is not None and packet.is_restart)),
        last_duration=shown[-1].duration,
        rising=known == sorted(known),
        stated_end=stated_end,
    )


def _packets(media: Any, stream: Any, max_frames: int) -> list[_Packet]:
    found: list[_Packet] = []
    num_shown = 0
    codec = stream.codec_context.name
    for packet in shown_packets(media, stream):
        if packet.is_corrupt:
            continue
        data = memoryview(packet)
        is_shown = not packet.is_discard and (codec != "vp8" or bool(data[0] & _VP8_SHOWN))
        is_restart = packet.is_keyframe and codec == "h264" and bool(_H264_IDR.search(data))
        found.append(_Packet(packet.pts, packet.dts, packet.duration or 0, is_shown, packet.is_keyframe, is_restart))
        num_shown += is_shown
        if num_shown > max_frames:
            size = f"{stream.codec_context.width} x {stream.codec_context.height}"
            raise VideoTooLong(
                f"The video has more than {max_frames} frames of {size} pixels, the most that can be read."
            )
    return found


def _cut(
    media: Any, stream: Any, container: str, file: Openable, shown: list[_Packet]
) -> tuple[int | None, int | None]:
    """Finds out if a file is cut off. Returns (cut, end), two times in ticks; (None, None) if the file is complete.

    media, stream: the open file in PyAV, and its video stream.
    container: the file's container, such as mp4: one of `sniff.CONTAINERS`.
    file: the file itself.
    shown: the stream's packets with a frame that is shown.

    `cut` is the decoding time of the first frame that is missing or may be incomplete. It is None if the file is cut
    off, but all frames of `shown` are whole. `end` is the time at which the last frame of the complete file would end,
    if the file states it. Otherwise it is the end of the last frame of `shown`.
    """
    file_bytes = size_of(file)
    reached = max(packet.pts + packet.duration for packet in shown if packet.pts is not None)
    if container in ("mp4", "mov"):
        # The file has an index of all frames. Frames that lie beyond the end of the file are missing.
        missing = [entry.timestamp for entry in stream.index_entries if entry.pos + entry.size > file_bytes]
        if missing:
            return min(missing), max(missing) + shown[-1].duration
        # If the file has several parts (fragments) with an index each, an incomplete part is not read at all.
        return None, reached if _last_box_is_cut(file) else None
    # A transport stream does not state where it ends, but a complete one consists of blocks of equal size. Without an
    # index, the last packet may be incomplete, so its frame counts as the first missing one.
    if container == "mpegts" and all(file_bytes % size for size in TS_PACKETS):
        return shown[-1].dts, reached
    stated = _stated_end(media, stream, container, shown)
    frame_ticks = Fraction(reached - min(packet.pts for packet in shown if packet.pts is not None), len(shown))
    # Other files are cut off if their packets end too early: at least this much before the end that the file states.
    least_loss = max(_LEAST_LOSS_S / Fraction(stream.time_base), frame_ticks * 3 / 2)
    if stated is None or stated - reached < least_loss:
        return None, None
    return shown[-1].dts, stated


def _stated_end(media: Any, stream: Any, container: str, shown: list[_Packet]) -> int | None:
    """Returns the time in ticks at which the stream ends according to the file; None if the file does not state it.

    Only Matroska, WebM and AVI files can state it.

    media: the open file in PyAV.
    container: the file's container, one of `sniff.CONTAINERS`.
    shown: the stream's packets with a frame that is shown.
    """
    if container == "avi":
        ticks = (shown[-1].dts or 0) - (shown[0].dts or 0)
        # The file states its number of frames. It is also the end in ticks if each frame lasts one tick.
        return int(stream.frames) if ticks < 2 * len(shown) else None
    if container in ("matroska", "webm") and stream.duration:
        return int(stream.duration)
    if container in ("matroska", "webm") and (tag := _DURATION_TAG.match(stream.metadata.get("DURATION", ""))):
        hours, minutes, seconds = tag.groups()
        return int((int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)) / stream.time_base)
    if container in ("matroska", "webm") and media.duration and len(media.streams) == 1:
        return int(Fraction(media.duration, av.time_base) / stream.time_base)
    return None


def _last_box_is_cut(file: Openable) -> bool:
    """Returns True if the last box of an MP4 or MOV file is incomplete, because the file is cut off.

    A box (ISO/IEC 14496-12, 4.2) begins with its size (4 bytes) and its type (4 bytes). The size 1 means that 8 bytes
    with the size follow. The size 0 means that the box ends at the end of the file.
    """
    position, end = 0, size_of(file)
    with file.open("rb") as opened:
        while position + 8 <= end:
            opened.seek(position)
            head = opened.read(16)
            size = int.from_bytes(head[:4], "big")
            if size == 1:
                size = int.from_bytes(head[8:16], "big")
            if size < 8:
                return False
            position += size
    return position > end
