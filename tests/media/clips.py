"""Test clips, encoded when they are needed: each frame shows its number, and coloured corners show its orientation."""

import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.bitstream import BitStreamFilterContext
from numpy.typing import NDArray
from PIL import Image

BITS = 8
RED, GREEN, BLUE, WHITE = (220, 30, 30), (30, 200, 30), (40, 40, 230), (235, 235, 235)

Picture = Callable[[int, int, int], NDArray[Any]]


def numbered(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """RGB [height, width, 3]: the number as eight bars, red and green upper corners, blue and white lower ones."""
    picture = np.empty((height, width, 3), np.uint8)
    picture[..., 0] = np.linspace(60, 120, width, dtype=np.uint8)
    picture[..., 1] = np.linspace(60, 120, height, dtype=np.uint8)[:, None]
    picture[..., 2] = 90
    for bit in range(BITS):
        columns = slice(bit * width // BITS, (bit + 1) * width // BITS)
        picture[height * 3 // 8 : height * 5 // 8, columns] = 230 if number >> bit & 1 else 20
    w, h = max(8, width // 6), max(8, height // 6)
    picture[:h, :w], picture[:h, -w:] = RED, GREEN
    picture[-h:, :w], picture[-h:, -w:] = BLUE, WHITE
    return picture


def number_of(picture: NDArray[np.uint8]) -> int:
    """The number in a picture that `numbered` drew."""
    height, width = picture.shape[:2]
    middles = [picture[height // 2, (2 * bit + 1) * width // (2 * BITS)].mean() for bit in range(BITS)]
    return sum(1 << bit for bit, brightness in enumerate(middles) if brightness > 128)


def corners(picture: NDArray[np.uint8]) -> str:
    """The letters of the corners' colours: upper left, upper right, lower left, lower right."""
    found = ""
    for y, x in ((3, 3), (3, -4), (-4, 3), (-4, -4)):
        distances = {
            name: np.abs(picture[y, x].astype(int) - color).sum()
            for name, color in (("R", RED), ("G", GREEN), ("B", BLUE), ("W", WHITE))
        }
        found += min(distances, key=lambda name: distances[name])
    return found


def flat(*color: int) -> Picture:
    """A picture of one colour."""
    return lambda _, width, height: np.full((height, width, 3), color, np.uint8)


@dataclass(frozen=True)
class Tone:
    """A sound of `seconds`: silence up to `onset_s`, then a sine of `hertz`. Its timestamps begin at `start_s`."""

    codec: str = "aac"
    rate: int = 48_000
    layout: str = "stereo"
    seconds: float = 1.0
    onset_s: float = 0.25
    start_s: float = 0.0
    hertz: float = 1000.0
    level: float = 0.5

    def samples(self) -> NDArray[np.float32]:
        """[channels, samples]."""
        times = np.arange(round(self.seconds * self.rate)) / self.rate
        wave = np.where(times >= self.onset_s, self.level * np.cos(2 * np.pi * self.hertz * (times - self.onset_s)), 0)
        return np.repeat(wave[None].astype(np.float32), len(av.AudioLayout(self.layout).channels), axis=0)


@dataclass(frozen=True)
class Clip:
    """A description of a test file. `pts` are the times of its frames in ticks of `tick_s`; None is a steady `rate`."""

    name: str
    frames: int = 24
    size: tuple[int, int] = (128, 96)
    rate: Fraction = Fraction(24)
    codec: str | None = "libx264"
    pix_fmt: str = "yuv420p"
    options: tuple[tuple[str, str], ...] = ()
    muxer_options: tuple[tuple[str, str], ...] = ()
    pts: Sequence[int] | None = None
    tick_s: Fraction | None = None
    tags: tuple[int, int, int, int] | None = None
    rotation: int | None = None
    hflip: bool = False
    pixel_aspect: Fraction | None = None
    picture: Picture = numbered
    sound: Tone | None = None

    def write(self, folder: Path) -> Path:
        """Writes the file in a thread that then ends.

        The encoder of AV1 gives the thread that calls it real-time priority if it runs as root, and all threads and
        processes that this thread starts later would have it, too.
        """
        with ThreadPoolExecutor(1) as own:
            return own.submit(self._write, folder).result()

    def _write(self, folder: Path) -> Path:
        path = folder / self.name
        with av.open(str(path), "w", options=dict(self.muxer_options)) as media:
            video = self._video_stream(media) if self.codec else None
            sound = _sound_stream(media, self.sound) if self.sound else None
            if self.sound and sound is not None:
                _write_sound(media, sound, self.sound)
            if video is not None:
                self._write_frames(media, video)
        return path

    def _video_stream(self, media: Any) -> Any:
        stream = media.add_stream(self.codec, rate=self.rate, options=dict(self.options))
        stream.width, stream.height = self.size
        stream.pix_fmt = self.pix_fmt
        context = stream.codec_context
        if self.tick_s is not None:
            context.time_base = self.tick_s
        if self.pixel_aspect is not None:
            context.sample_aspect_ratio = self.pixel_aspect
        if self.rotation is not None or self.hflip:
            stream.set_display_rotation(self.rotation or 0, hflip=self.hflip)
        if self.tags is not None:
            context.colorspace, context.color_range, context.color_primaries, context.color_trc = self.tags
        context.thread_count = 1
        return stream

    def _write_frames(self, media: Any, stream: Any) -> None:
        for number in range(self.frames):
            frame = av.VideoFrame.from_ndarray(self.picture(number, *self.size), format=self._source_format())
            frame = frame.reformat(format=self.pix_fmt)
            if self.tags is not None:
                frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc = self.tags
            frame.pts = number if self.pts is None else self.pts[number]
            frame.time_base = self.tick_s or 1 / self.rate
            media.mux(stream.encode(frame))
        media.mux(stream.encode(None))

    def _source_format(self) -> str:
        first = self.picture(0, *self.size)
        if first.dtype == np.uint16:
            return "rgb48le"
        return "rgba" if first.shape[2] == 4 else "rgb24"


def _sound_stream(media: Any, tone: Tone) -> Any:
    stream = media.add_stream(tone.codec, rate=tone.rate, options={"strict": "-2"})
    stream.codec_context.layout = tone.layout
    return stream


def _write_sound(media: Any, stream: Any, tone: Tone) -> None:
    samples = tone.samples()
    resampler = av.AudioResampler(
        format=stream.codec_context.format, layout=tone.layout, rate=tone.rate, frame_size=1024
    )
    # Interleaved: PyAV counts one plane too many of 8 or more planar channels.
    packed = np.ascontiguousarray(samples.T).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=tone.layout)
    frame.sample_rate = tone.rate
    frame.pts = round(tone.start_s * tone.rate)
    frame.time_base = Fraction(1, tone.rate)
    for piece in [*resampler.resample(frame), *resampler.resample(None)]:
        media.mux(stream.encode(piece))
    media.mux(stream.encode(None))


def write_webp(path: Path, frames: int, size: tuple[int, int], shown_ms: int | list[int], alpha: int = 255) -> Path:
    images = []
    for number in range(frames):
        picture = Image.fromarray(numbered(number, *size))
        picture.putalpha(alpha)
        images.append(picture)
    images[0].save(path, save_all=True, append_images=images[1:], duration=shown_ms, lossless=True, minimize_size=False)
    return path


def write_gif(path: Path, frames: int, size: tuple[int, int], delay_cs: int = 4) -> Path:
    """Writes a black GIF of `frames` frames, each of which draws one pixel: 27 bytes for a frame of any size.

    `delay_cs` is how long each frame is shown, in hundredths of a second.
    """
    screen = b"GIF89a" + struct.pack("<HHBBB", *size, 0x80, 0, 0) + bytes(3) + b"\xff" * 3
    frame = b"\x21\xf9\x04\x00" + struct.pack("<H", delay_cs) + b"\x00\x00"
    frame += b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    path.write_bytes(screen + frame * frames + b"\x3b")
    return path


def in_avi(path: Path, to: Path, rate: Fraction) -> Path:
    """Writes the H.264 video of the MP4 file `path` to an AVI file, which stores no presentation times."""
    with av.open(str(path)) as media, av.open(str(to), "w") as avi:
        source = media.streams.video[0]
        stream = avi.add_stream_from_template(source)
        stream.time_base = 1 / rate
        starts = BitStreamFilterContext("h264_mp4toannexb", source, stream)
        whole = [packet for packet in media.demux(source) if packet.size]
        _mux(avi, stream, [(bytes(p), p.is_keyframe) for packet in whole for p in starts.filter(packet)], rate)
    return to


def packed_avi(path: Path, to: Path, rate: Fraction) -> Path:
    """Writes the MPEG-4 video of the AVI file `path`, whose B-frames are single, with each B-frame in the packet before
    it, as DivX did. A packet that shows nothing takes the place of the B-frame."""
    with av.open(str(path)) as media, av.open(str(to), "w") as avi:
        source = media.streams.video[0]
        stream = avi.add_stream_from_template(source)
        packets: list[tuple[bytes, bool]] = []
        for packet in media.demux(source):
            data = bytes(packet)
            at = data.find(b"\0\0\1\xb6")
            if at < 0:
                continue
            if data[at + 4] >> 6 == 2:
                packets[-1] = (packets[-1][0] + data, packets[-1][1])
                data = b"\0\0\1\xb6\x50\x7f"
            elif packet.is_keyframe:
                data = data[:at] + b"\0\0\1\xb2DivX503b1393p" + data[at:]
            packets.append((data, packet.is_keyframe))
        _mux(avi, stream, packets, rate)
    return to


def _mux(file: Any, stream: Any, packets: list[tuple[bytes, bool]], rate: Fraction) -> None:
    for number, (data, is_key) in enumerate(packets):
        packet = av.Packet(data)
        packet.pts = packet.dts = number
        packet.time_base, packet.is_keyframe, packet.stream = 1 / rate, is_key, stream
        file.mux(packet)


def cut(path: Path, to: Path, share: float) -> Path:
    """Writes the first `share` (0..1) of the file `path` to `to`."""
    data = path.read_bytes()
    to.write_bytes(data[: int(len(data) * share)])
    return to


X264_OPEN_GOP = (("x264-params", "open-gop=1:keyint=12:min-keyint=12:scenecut=0:bframes=3:b-adapt=0"),)
X264_SHORT_GOP = (("x264-params", "keyint=12:scenecut=0:bframes=2"),)
X264_INTERLACED = (("flags", "+ildct+ilme"), ("x264-params", "tff=1:keyint=12"))
MPEG2_INTERLACED = (("flags", "+ildct+ilme"), ("b", "3000000"), ("g", "12"), ("bf", "2"))
X265_QUIET = (("x265-params", "log-level=none:keyint=12:pools=none:frame-threads=1"),)
FASTSTART = (("movflags", "+faststart"),)

STEADY = (
    Clip("h264.mp4", options=X264_SHORT_GOP, frames=48),
    Clip("h264_open_gop.mp4", options=X264_OPEN_GOP, frames=48),
    Clip("h264_open_gop.ts", options=X264_OPEN_GOP, frames=48),
    Clip("h264_23976.mp4", options=X264_SHORT_GOP, rate=Fraction(24000, 1001), frames=48),
    Clip("h264_2997.mov", options=X264_SHORT_GOP, rate=Fraction(30000, 1001), frames=30),
    Clip("h264_5994.mkv", options=X264_SHORT_GOP, rate=Fraction(60000, 1001), frames=60),
    Clip("h264_23976.mkv", options=X264_SHORT_GOP, rate=Fraction(24000, 1001), frames=48),
    Clip(
        "h264_fragmented.mp4",
        options=X264_SHORT_GOP,
        muxer_options=(("movflags", "frag_keyframe+empty_moov"),),
        frames=48,
    ),
    Clip("hevc.mp4", codec="libx265", options=X265_QUIET, frames=36),
    Clip("vp9.webm", codec="libvpx-vp9", options=(("g", "12"), ("cpu-used", "8"), ("lag-in-frames", "16"))),
    Clip("vp8.webm", codec="libvpx", options=(("g", "12"),)),
    Clip("av1.mp4", codec="libsvtav1", options=(("preset", "12"), ("svtav1-params", "lp=1")), frames=12),
    Clip("mpeg4_b.avi", codec="mpeg4", options=(("bf", "2"), ("g", "12"))),
    Clip("mjpeg.avi", codec="mjpeg", pix_fmt="yuvj420p"),
    Clip("prores.mov", codec="prores_ks", pix_fmt="yuv422p10le", frames=8),
    Clip("mpeg2.ts", codec="mpeg2video", options=(("bf", "2"), ("g", "12"), ("b", "2000000")), rate=Fraction(25)),
    Clip("mpeg4.ts", codec="mpeg4", options=(("bf", "2"), ("g", "12"), ("b", "2000000")), frames=36),
    Clip("hevc.ts", codec="libx265", options=X265_QUIET, frames=36),
    Clip("late.mkv", options=X264_SHORT_GOP, pts=[240 + n for n in range(24)]),
    Clip("late.mp4", options=X264_SHORT_GOP, pts=[240 + n for n in range(24)]),
    Clip("odd.webm", codec="libvpx-vp9", size=(121, 91), options=(("cpu-used", "8"),)),
    Clip("odd.mp4", size=(121, 91), pix_fmt="yuv444p", frames=10),
    Clip("gif.gif", codec="gif", pix_fmt="rgb8", rate=Fraction(25), frames=10),
)
"""Files of a steady rate; frame n shows the number n."""
