"""Probes a video file: opens it safely, reads the times of all packets and decodes the first frame."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

from longtake.errors import UnsupportedVideo, VideoTooLarge, VideoTooLong
from longtake.media import webp
from longtake.media.limits import Limits
from longtake.media.packets import frame_times, shown_packets
from longtake.media.picture import TRANSPARENT_NOTE, PictureFormat, is_transparent, picture_format, picture_notes
from longtake.media.shared_file import Openable
from longtake.media.tags import MOST_COMMENT_BYTES
from longtake.media.timeline import FALLBACK_RATE, Timeline, timeline
from longtake.video import SoundInfo, VideoInfo, counted_seconds

DEMUXERS = {
    "mp4": "mov",
    "mov": "mov",
    "matroska": "matroska",
    "webm": "matroska",
    "gif": "gif",
    "avi": "avi",
    "mpegts": "mpegts",
}
"""FFmpeg's demuxer for each container of `sniff.CONTAINERS` except webp. No other demuxer is ever used."""

_WHITELIST = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,gif,avi,mpegts"
_IO_BYTES = 1 << 18
_CHECKED_FRAMES = 32
"""If the times of the packets look wrong, this many frames are decoded to check whether their times are in order."""

_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


_SOUND_PROBE_PACKETS = 100
"""If none of this many packets at the start of a sound track can be decoded, the track counts as undecodable."""

MOST_TRIED_TRACKS = 16
"""If none of a file's first sound tracks, up to this number, can be decoded, the video counts as silent."""

HIGHEST_SOUND_RATE = 768_000
"""The highest sample rate in Hz of sound that is read. No device records or plays a higher one."""


@dataclass(frozen=True)
class ProbedVideo:
    """A probed file, with everything that is needed to read any part of it.

    file: the video file.
    container: its container, such as mp4: one of `sniff.CONTAINERS`.
    facts: the facts about the video for the rest of the program, such as its size, its length and its sound.
    timeline: the times of the stored frames, and the constant frame rate at which the video is read.
    keyframe_times: presentation times of the frames at which decoding can start, in the timeline's ticks and in rising
        order.
    picture: how stored frames are converted to upright pictures.
    limits: the limits for reading the file.
    has_timestamps: False if decoded frames have no usable times. Then they are numbered in the order in which the
        decoder returns them, from the keyframe at which decoding starts.
    origin_s: timestamp of the first frame in seconds. Sound is placed relative to it.
    stated_s: seconds that the video would last if the file were not cut off; None for a complete file.
    """

    file: Openable
    container: str
    facts: VideoInfo
    timeline: Timeline
    keyframe_times: tuple[int, ...]
    picture: PictureFormat
    limits: Limits
    has_timestamps: bool = True
    origin_s: Fraction = Fraction(0)
    stated_s: Fraction | None = None


@contextmanager
def opened(file: Openable, container: str) -> Iterator[Any]:
    """Opens a file for a `with` block and yields PyAV's container object. The file is closed when the block ends.

    Only the demuxer of `container` is tried, and the file cannot make FFmpeg open other files.
    """
    with (
        file.open("rb") as reader,
        av.open(
            reader,
            format=DEMUXERS[container],
            buffer_size=_IO_BYTES,
            metadata_errors="replace",
            options={"format_whitelist": _WHITELIST, "protocol_whitelist": "file", "fflags": "+genpts"},
        ) as media,
    ):
        yield media


def check_opening(file: Openable, container: str) -> None:
    """Opens a file and closes it again. Some broken files take very long to open, so the caller runs this in a process
    of its own and limits its time.

    container: the file's container, one of `sniff.CONTAINERS`.

    Raises UnsupportedVideo if the file cannot be opened.
    """
    if container == "webp":
        return
    try:
        with opened(file, container):
            pass
    except av.FFmpegError as error:
        raise _unreadable(container, error) from None


def _unreadable(container: str, error: av.FFmpegError) -> UnsupportedVideo:
    return UnsupportedVideo(f"The file cannot be read as {container}: {error.strerror or error}.")


def video_stream(media: Any) -> Any:
    """Returns the video stream that players show, not a cover picture. Raises UnsupportedVideo if there is none."""
    videos = [stream for stream in media.streams.video if not stream.disposition & Disposition.attached_pic]
    if not videos:
        raise UnsupportedVideo(f"The file has {'sound but ' if media.streams.audio else ''}no video stream.")
    best = media.streams.best("video")
    stream = best if best in videos else videos[0]
    if stream.codec_context is None:
        raise UnsupportedVideo("The video is stored in a codec that is not known here.")
    return stream


def decoder_of(stream: Any, limits: Limits) -> Any:
    """Returns a multi-threaded decoder of the stream.

    It also decodes an alpha channel, and refuses frames of more than `limits.max_pixels` pixels.
    """
    name = stream.codec_context.name
    if name in _ALPHA_DECODERS and stream.metadata.get("alpha_mode") == "1":
        decoder = av.CodecContext.create(_ALPHA_DECODERS[name], "r")
    else:
        decoder = stream.codec_context
    decoder.thread_type = "AUTO"
    decoder.thread_count = 4
    decoder.options = {"max_pixels": str(limits.max_pixels)}
    return decoder


def probe(file: Openable, container: str, limits: Limits) -> ProbedVideo:
    """Opens a video file, reads the times of all packets and decodes the first frame.

    Returns everything that is needed to read the video. A file without usable timestamps is decoded completely to count
    its frames.

    container: the file's container, such as mp4: one of `sniff.CONTAINERS`.

    Raises UnsupportedVideo if the file cannot be read, VideoTooLarge or VideoTooLong if it exceeds `limits`.
    """
    if container == "webp":
        return _probe_webp(file, limits)
    try:
        with opened(file, container) as media:
            stream = video_stream(media)
            _check_size(stream.codec_context.width, stream.codec_context.height, limits)
            tracks = _sound_tracks(media)
            tick_s = Fraction(stream.time_base)
            stated = [] if container == "gif" else [r for r in (stream.average_rate, stream.guessed_rate) if r]
            size = (stream.codec_context.width, stream.codec_context.height)
            times = frame_times(media, stream, container, file, _most_frames(container, size, limits))
            duration_s = Fraction(media.duration or 0, av.time_base)
        with opened(file, container) as media:
            stream = video_stream(media)
            codec = str(stream.codec_context.codec.canonical_name)
            may_reorder = times.rising and stream.codec_context.has_b_frames
            first, first_times = _first_frames(media, stream, limits, _CHECKED_FRAMES if may_reorder else 1)
            picture = picture_format(first, stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio)
            _check_size(picture.width, picture.height, limits)
        notes = picture_notes(first, picture)
        sound, sound_notes = _sound(file, container, tracks)
        count = 0 if times.pts else _count_frames(file, container, limits)
    except av.FFmpegError as error:
        raise _unreadable(container, error) from None
    # AVI stores no presentation times. FFmpeg computes them, but not for every codec; then they rise from packet to
    # packet also where frames are reordered. Some programs write such times to other containers, too.
    by_order = may_reorder and (container == "avi" or first_times != sorted(first_times))
    # The computed times are late by the decoder's delay, so they are ignored.
    origin_s = times.pts[0] * tick_s if times.pts and container != "avi" else Fraction(0)
    if times.pts:
        last_duration = times.last_duration or (round(duration_s / tick_s) if len(times.pts) == 1 else 0)
        line = timeline(times.pts, last_duration, tick_s, stated)
    else:
        line = timeline(range(count), 1, 1 / (stated[0] if stated else FALLBACK_RATE), stated)
    return ProbedVideo(
        file=file,
        container=container,
        facts=replace(
            _facts(container, codec, picture, line, limits), sound=sound, notes=notes, sound_notes=sound_notes
        ),
        timeline=line,
        keyframe_times=times.restart_times if by_order else times.keyframe_times,
        picture=picture,
        limits=limits,
        has_timestamps=times.pts is not None and not by_order,
        origin_s=origin_s,
        stated_s=None if times.stated_end is None else times.stated_end * tick_s - origin_s,
    )


def read_tags(file: Openable, container: str) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    """Returns (fields, comment): the fields of a tags.FileTags except the comment, and the bytes of the comment.

    container: the file's container, one of `sniff.CONTAINERS`.
    """
    if container == "webp":
        return {"pixel_format": "", "sound_codec": ""}, np.zeros(0, np.uint8)
    with opened(file, container) as media:
        sound = media.streams.best("audio")
        fields = {
            "pixel_format": str(video_stream(media).codec_context.pix_fmt or ""),
            "sound_codec": "" if sound is None or not sound.codec_context else sound.codec_context.codec.canonical_name,
        }
        comment = next((text for name, text in media.metadata.items() if name.lower() == "comment"), "")
    content = comment.encode("utf-8", "replace")
    return fields, np.frombuffer(content if len(content) <= MOST_COMMENT_BYTES else b"", np.uint8)


def _probe_webp(file: Openable, limits: Limits) -> ProbedVideo:
    width, height, count = webp.canvas(file)
    _check_size(width, height, limits)
    most_frames = _most_frames("webp", (width, height), limits)
    if count > most_frames:
        raise VideoTooLong(
            f"The video has more than {most_frames} frames of {width} x {height} pixels, the most that can be read."
        )
    picture: PictureFormat | None = None
    times, notes = [0], tuple[str, ...]()
    for frame, duration_ms in webp.pictures(file):
        picture = picture or picture_format(frame, None)
        notes = notes or ((TRANSPARENT_NOTE,) if is_transparent(frame) else ())
        times.append(times[-1] + duration_ms)
    if picture is None:
        raise UnsupportedVideo("Not one frame of the animation could be decoded.")
    line = timeline(times[:-1], times[-1] - times[-2], Fraction(1, webp.TICKS_PER_S), ())
    facts = replace(_facts("webp", "webp", picture, line, limits), notes=notes)
    return ProbedVideo(file, "webp", facts, line, (), picture, limits, has_timestamps=False)


def _facts(container: str, codec: str, picture: PictureFormat, line: Timeline, limits: Limits) -> VideoInfo:
    _check_length(line, limits)
    return VideoInfo(
        container=container,
        codec=codec,
        width=picture.width,
        height=picture.height,
        rate=line.rate,
        num_frames=line.num_frames,
        delays_s=line.duration_s if container in ("gif", "webp") else None,
        stored_frames=len(line.pts) if line.variable else None,
    )


def _count_frames(file: Openable, container: str, limits: Limits) -> int:
    """Decodes the whole file and returns the number of frames. Raises UnsupportedVideo if there is none.

    container: the file's container, one of `sniff.CONTAINERS`.
    limits: gives the largest number of pixels of a frame. Larger frames are not decoded.
    """
    with opened(file, container) as media:
        stream = video_stream(media)
        count = sum(1 for _ in decoded(shown_packets(media, stream), decoder_of(stream, limits)))
    if not count:
        raise UnsupportedVideo("Not one frame of the video could be decoded.")
    return count


def decoded(packets: Iterator[Any], decoder: Any) -> Iterator[Any]:
    """Yields all frames that the decoder returns for the packets. Packets that cannot be decoded are skipped."""
    for packet in packets:
        try:
            yield from decoder.decode(packet)
        except av.error.InvalidDataError:
            continue
    try:
        yield from decoder.decode(None)
    except (av.error.InvalidDataError, av.error.EOFError):
        return


def _first_frames(media: Any, stream: Any, limits: Limits, count: int) -> tuple[Any, list[int]]:
    """Decodes up to `count` frames of `stream` from its start. Returns (first frame, times of all decoded frames).

    The times are in ticks of the stream's time base, in the order in which the decoder returns the frames. A frame
    without a timestamp has no time in the list. Raises UnsupportedVideo if no frame can be decoded.
    """
    first, times = None, []
    for frame in islice(decoded(shown_packets(media, stream), decoder_of(stream, limits)), count):
        first = first or frame
        times.append(frame.pts)
    if first is None:
        raise UnsupportedVideo("Not one frame of the video could be decoded.")
    return first, [time for time in times if time is not None]


def _sound_tracks(media: Any) -> list[int]:
    """Returns the numbers of all sound tracks of the file, in the order in which they should be tried.

    The track that FFmpeg prefers comes first, then the others in the order of the file. Number 0 is the first sound
    track of the file; tracks of other kinds are not counted.
    """
    best = media.streams.best("audio")
    tracks = range(len(media.streams.audio))
    return sorted(tracks, key=lambda track: best is None or media.streams.audio[track].index != best.index)


def _sound(file: Openable, container: str, tracks: list[int]) -> tuple[SoundInfo | None, tuple[str, ...]]:
    """Returns (track, notes): the sound track to use, and sentences for the user about the file's sound tracks.

    `tracks` are the numbers of the sound tracks from 0, in the order in which they are tried. The first one that can be
    decoded and has a usable sample rate is used; `track` is None if there is none among the first MOST_TRIED_TRACKS.
    Tracks without any packet are ignored.
    """
    unusable: dict[int, str] = {}
    for position, track in enumerate(tracks[:MOST_TRIED_TRACKS]):
        with opened(file, container) as media:
            stream = media.streams.audio[track]
            packets = list(islice(shown_packets(media, stream), _SOUND_PROBE_PACKETS))
            frame = next(decoded(iter(packets), stream.codec_context), None) if stream.codec_context else None
        if frame is not None and frame.sample_rate > HIGHEST_SOUND_RATE:
            excess = f"has {frame.sample_rate} samples per second (at most {HIGHEST_SOUND_RATE} can be read)"
            unusable[track + 1] = excess
        elif frame is not None and frame.sample_rate and frame.layout.nb_channels:
            info = SoundInfo(frame.sample_rate, frame.layout.nb_channels, frame.layout.name, track + 1)
            return info, _sound_notes(info, unusable, len(tracks) - position - 1)
        elif packets:
            unusable[track + 1] = "cannot be decoded"
    return None, tuple(f"The source's sound {reason} and was left out." for reason in [*unusable.values()][:1])


def _sound_notes(used: SoundInfo, unusable: dict[int, str], num_unused: int) -> tuple[str, ...]:
    """Returns sentences for the user about the sound track that is used and about the other sound tracks.

    used: the track that is used.
    unusable: the tracks that were tried before it and cannot be used: number of the track (from 1) -> reason, as the
        end of a sentence.
    num_unused: number of tracks that were not tried.
    """
    notes = [f"Sound track {number} of the source {reason}." for number, reason in unusable.items()]
    if others := len(unusable) + num_unused:
        notes.append(f"Of the source's {others + 1} sound tracks, only track {used.track} was used.")
    if used.channels > 2:
        # FFmpeg's names of layouts without a name of their own contain the word "channels".
        kind = used.layout if "channels" not in used.layout else f"{used.channels}-channel"
        notes.append(f"The source's {kind} sound was mixed to stereo.")
    return tuple(notes)


def _check_size(width: int, height: int, limits: Limits) -> None:
    if width * height > limits.max_pixels:
        raise VideoTooLarge(
            f"The video is {width} x {height}; at most {limits.max_pixels} pixels per frame can be read.",
            value=[width, height],
            ctx={"max_pixels": limits.max_pixels},
        )


def _most_frames(container: str, size: tuple[int, int], limits: Limits) -> int:
    """Returns the largest number of stored frames that a video may have.

    It is `limits.max_frames`. For a GIF or WebP file it can be lower, because all frames of such a file together may
    have at most `limits.max_animation_pixels` pixels.

    container: the file's container, one of `sniff.CONTAINERS`.
    size: (width, height) of the frames in pixels.
    """
    if container not in ("gif", "webp"):
        return limits.max_frames
    return min(limits.max_frames, limits.max_animation_pixels // max(size[0] * size[1], 1))


def _check_length(line: Timeline, limits: Limits) -> None:
    # A file can state a last frame that is far shorter than the others, but all frames are read with the same duration.
    duration_s = max(line.duration_s, counted_seconds(line.num_frames, line.rate))
    if duration_s > limits.max_duration_s or line.num_frames > limits.max_frames:
        raise VideoTooLong(
            f"The video lasts {float(duration_s):.0f} s ({line.num_frames} frames); "
            f"at most {limits.max_duration_s:g} s and {limits.max_frames} frames can be read.",
            ctx={"max_duration": limits.max_duration_s, "provided_duration": float(duration_s)},
        )
