"""What a file holds: its streams opened safely, its packets counted, its first picture looked at."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from longtake.errors import UnsupportedVideo, VideoTooLarge, VideoTooLong
from longtake.media import webp
from longtake.media.picture import Look, look_of
from longtake.media.sandbox import Limits
from longtake.media.timeline import FALLBACK_RATE, Timeline, timeline
from longtake.video import SoundInfo, VideoInfo

DEMUXERS = {
    "mp4": "mov",
    "mov": "mov",
    "matroska": "matroska",
    "webm": "matroska",
    "gif": "gif",
    "avi": "avi",
    "mpegts": "mpegts",
}
"""The demuxer for each container that `fetch.sniff` names; no other is ever allowed to open."""

_WHITELIST = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,gif,avi,mpegts"
_IO_BYTES = 1 << 18
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
_VP8_SHOWN = 0x10


@dataclass(frozen=True)
class Film:
    """A file that was looked through: everything needed to read any part of it.

    `keys` are the presentation times (in ticks) at which decoding may start. Where `counted`, the file has no usable
    timestamps: the n-th frame out of the decoder is frame n, and decoding starts at the beginning. `origin_s` is the
    file's time at which the first frame is shown.
    """

    path: Path
    container: str
    facts: VideoInfo
    timeline: Timeline
    keys: tuple[int, ...]
    look: Look
    limits: Limits
    counted: bool = False
    origin_s: Fraction = Fraction(0)


@dataclass
class _Packets:
    """What the scan found, in ticks; from the decoding time `cut` on, packets are lost."""

    pts: list[int | None]
    keys: list[int]
    last_duration: int
    cut: int | None


@contextmanager
def opened(path: Path, container: str) -> Iterator[Any]:
    """The container, opened with one named demuxer on our own file object: nothing else can be reached from it."""
    with (
        path.open("rb") as file,
        av.open(
            file,
            format=DEMUXERS[container],
            buffer_size=_IO_BYTES,
            metadata_errors="replace",
            options={"format_whitelist": _WHITELIST, "protocol_whitelist": "file", "fflags": "+genpts"},
        ) as media,
    ):
        yield media


def video_stream(media: Any) -> Any:
    """The stream to show; a cover picture is none. Raises UnsupportedVideo."""
    videos = [stream for stream in media.streams.video if not stream.disposition & Disposition.attached_pic]
    if not videos:
        raise UnsupportedVideo(f"The file has {'sound but ' if media.streams.audio else ''}no video stream.")
    best = media.streams.best("video")
    stream = best if best in videos else videos[0]
    if stream.codec_context is None:
        raise UnsupportedVideo("The video is stored in a codec that is not known here.")
    return stream


def decoder_of(stream: Any, limits: Limits) -> Any:
    """A decoder for the stream's packets: threaded, bounded in pixels, and one that sees alpha where there is any."""
    name = stream.codec_context.name
    if name in _ALPHA_DECODERS and stream.metadata.get("alpha_mode") == "1":
        decoder = av.CodecContext.create(_ALPHA_DECODERS[name], "r")
    else:
        decoder = stream.codec_context
    decoder.thread_type = "AUTO"
    decoder.thread_count = 4
    decoder.options = {"max_pixels": str(limits.max_pixels)}
    return decoder


def probe(path: Path, container: str, limits: Limits) -> Film:
    """Looks the whole file through without decoding more than its first picture.

    Raises UnsupportedVideo, VideoTooLarge, VideoTooLong.
    """
    if container == "webp":
        return _probe_webp(path, limits)
    try:
        with opened(path, container) as media:
            stream = video_stream(media)
            _check_size(stream.codec_context.width, stream.codec_context.height, limits)
            sound = _sound(media)
            tick_s = Fraction(stream.time_base)
            declared = None if container == "gif" else stream.average_rate or stream.guessed_rate or None
            packets = _scan(media, stream, limits)
            packets.cut = _cut(stream, path.stat().st_size) if DEMUXERS[container] == "mov" else None
        with opened(path, container) as media:
            stream = video_stream(media)
            codec = str(stream.codec_context.codec.canonical_name)
            first = _first_frame(media, stream, limits)
            look = look_of(first, stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio)
            _check_size(look.width, look.height, limits)
        pts, counted = _times(path, container, packets, limits)
    except av.FFmpegError as error:
        raise UnsupportedVideo(f"The file cannot be read as {container}: {error.strerror or error}.") from None
    # AVI stores no display times; those made up for it lag behind by the decoder's delay.
    origin_s = Fraction(0) if counted or container == "avi" else pts[0] * tick_s
    if counted:
        tick_s, packets.last_duration = 1 / (declared or FALLBACK_RATE), 1
    line = timeline(pts, packets.last_duration, tick_s, declared)
    keys = () if counted else tuple(sorted(packets.keys))
    return Film(
        path,
        container,
        _facts(container, codec, look, line, sound, limits),
        line,
        keys,
        look,
        limits,
        counted,
        origin_s,
    )


def _probe_webp(path: Path, limits: Limits) -> Film:
    _check_size(*webp.canvas(path), limits)
    look: Look | None = None
    times = [0]
    for frame, shown_ms in webp.pictures(path):
        look = look or look_of(frame, None)
        times.append(times[-1] + shown_ms)
        if len(times) > limits.max_frames:
            raise VideoTooLong(f"The animation has more than {limits.max_frames} frames, the most that can be read.")
    if look is None:
        raise UnsupportedVideo("Not one frame of the animation could be decoded.")
    line = timeline(times[:-1], times[-1] - times[-2], Fraction(1, webp.TICKS_PER_S), None)
    return Film(path, "webp", _facts("webp", "webp", look, line, None, limits), line, (), look, limits, counted=True)


def _facts(
    container: str, codec: str, look: Look, line: Timeline, sound: SoundInfo | None, limits: Limits
) -> VideoInfo:
    _check_length(line, limits)
    return VideoInfo(
        container=container,
        codec=codec,
        width=look.width,
        height=look.height,
        rate=line.rate,
        num_frames=line.num_frames,
        variable_rate=line.variable,
        rotation=look.rotation,
        mirrored=look.mirrored,
        interlaced=look.interlaced,
        bit_depth=look.bit_depth,
        transfer=look.transfer,
        alpha=look.alpha,
        sound=sound,
    )


def shown_packets(media: Any, stream: Any) -> Iterator[Any]:
    """The stream's packets up to the end of the file or to where it breaks off."""
    packets = media.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.FFmpegError):
            return
        if packet.size:
            yield packet


def _scan(media: Any, stream: Any, limits: Limits) -> _Packets:
    found = _Packets([], [], 0, None)
    invisible_frames = stream.codec_context.name == "vp8"
    for packet in shown_packets(media, stream):
        if packet.is_corrupt:
            continue
        if packet.is_keyframe and packet.pts is not None:
            found.keys.append(packet.pts)
        if packet.is_discard or (invisible_frames and not memoryview(packet)[0] & _VP8_SHOWN):
            continue
        found.pts.append(packet.pts)
        found.last_duration = packet.duration or 0
        if len(found.pts) > limits.max_frames:
            raise VideoTooLong(f"The video has more than {limits.max_frames} frames, the most that can be read.")
    if not found.pts:
        raise UnsupportedVideo("The file has a video stream without a single whole frame; it is empty or cut off.")
    return found


def _cut(stream: Any, file_bytes: int) -> int | None:
    """The decoding time of the first frame that lies behind the end of the file, if one does."""
    return min((entry.timestamp for entry in stream.index_entries if entry.pos + entry.size > file_bytes), default=None)


def _times(path: Path, container: str, packets: _Packets, limits: Limits) -> tuple[list[int], bool]:
    """Rising presentation times and whether they had to be counted.

    Behind a cut, frames that were to be shown before a lost one are dropped: what is left has no holes.
    """
    known = [time for time in packets.pts if time is not None]
    if len(known) == len(packets.pts) and len(set(known)) == len(known):
        whole = [time for time in known if packets.cut is None or time < packets.cut]
        return sorted(whole or known[:1]), False
    with opened(path, container) as media:
        stream = video_stream(media)
        count = sum(1 for _ in decoded(shown_packets(media, stream), decoder_of(stream, limits)))
    if not count:
        raise UnsupportedVideo("Not one frame of the video could be decoded.")
    return list(range(count)), True


def decoded(packets: Iterator[Any], decoder: Any) -> Iterator[Any]:
    """Every frame that comes out, flushed at the end; packets that do not decode are passed over."""
    for packet in packets:
        try:
            yield from decoder.decode(packet)
        except av.error.InvalidDataError:
            continue
    try:
        yield from decoder.decode(None)
    except (av.error.InvalidDataError, av.error.EOFError):
        return


def _first_frame(media: Any, stream: Any, limits: Limits) -> Any:
    for frame in decoded(shown_packets(media, stream), decoder_of(stream, limits)):
        return frame
    raise UnsupportedVideo("Not one frame of the video could be decoded.")


def _sound(media: Any) -> SoundInfo | None:
    stream = media.streams.best("audio")
    if (
        stream is None
        or stream.codec_context is None
        or not stream.codec_context.rate
        or not stream.codec_context.layout.nb_channels
    ):
        return None
    context = stream.codec_context
    return SoundInfo(context.rate, context.layout.nb_channels, context.layout.name)


def _check_size(width: int, height: int, limits: Limits) -> None:
    if width * height > limits.max_pixels:
        raise VideoTooLarge(
            f"The video is {width} x {height}; at most {limits.max_pixels} pixels per frame can be read.",
            value=[width, height],
            ctx={"max_pixels": limits.max_pixels},
        )


def _check_length(line: Timeline, limits: Limits) -> None:
    if line.duration_s > limits.max_duration_s or line.num_frames > limits.max_frames:
        raise VideoTooLong(
            f"The video lasts {float(line.duration_s):.0f} s ({line.num_frames} frames); "
            f"at most {limits.max_duration_s:g} s and {limits.max_frames} frames can be read.",
            ctx={"max_duration": limits.max_duration_s, "provided_duration": float(line.duration_s)},
        )
