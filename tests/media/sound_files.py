"""Small video files with any sound tracks: any channels, tracks that cannot be decoded, and inexact timestamps."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

FRAME_RATE = 24


def on_time(packet: int) -> int:
    return 0


@dataclass(frozen=True)
class Track:
    """A sound track of these samples [channels, n].

    `delay_ms`: number of a packet -> milliseconds by which its timestamp is late; None if the packet is lost.
    `is_broken`: True if the packets hold no valid data.
    """

    samples: NDArray[Any]
    layout: str = "stereo"
    codec: str = "pcm_s16le"
    rate: int = 48_000
    bit_rate: int | None = None
    delay_ms: Callable[[int], int | None] = on_time
    is_broken: bool = False


def write(path: Path, *tracks: Track, num_frames: int = 24) -> Path:
    """Writes a dark video of `num_frames` frames at 24 per second with these sound tracks."""
    with av.open(str(path), "w") as media:
        vp9 = path.suffix == ".webm"
        video = media.add_stream("libvpx-vp9" if vp9 else "libx264", rate=FRAME_RATE)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        streams = [_stream(media, track) for track in tracks]
        for number in range(num_frames):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number, np.uint8), format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, FRAME_RATE)
            media.mux(video.encode(picture))
        media.mux(video.encode(None))
        for stream, track in zip(streams, tracks, strict=True):
            _write_track(media, stream, track)
    return path


def _stream(media: Any, track: Track) -> Any:
    stream = media.add_stream(track.codec, rate=track.rate)
    stream.codec_context.layout = track.layout
    if track.bit_rate:
        stream.codec_context.bit_rate = track.bit_rate
    return stream


def _write_track(media: Any, stream: Any, track: Track) -> None:
    # Interleaved: PyAV counts one plane too many of 8 or more planar channels.
    packed = np.ascontiguousarray(track.samples.T, np.float32).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=track.layout)
    frame.sample_rate, frame.pts, frame.time_base = track.rate, 0, Fraction(1, track.rate)
    resampler = av.AudioResampler(stream.codec_context.format, track.layout, track.rate, frame_size=1024)
    pieces = [*resampler.resample(frame), *resampler.resample(None), None]
    packets = [packet for piece in pieces for packet in stream.encode(piece)]
    for number, packet in enumerate(packets):
        late = track.delay_ms(number)
        if late is None:
            continue
        packet = _without_data(packet, stream) if track.is_broken else packet
        packet.pts += round(late / 1000 / packet.time_base)
        packet.dts = packet.pts
        media.mux(packet)


def _without_data(packet: Any, stream: Any) -> Any:
    empty = av.Packet(b"\x5a" * packet.size)
    empty.stream, empty.time_base = stream, packet.time_base
    empty.pts, empty.duration = packet.pts, packet.duration
    return empty
