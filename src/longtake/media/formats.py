"""Output formats: the encoder's settings for each output type, quality and write mode."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

OutputType = Literal["X264 (.mp4)", "VP9 (.webm)", "PRORES4444 (.mov)", "GIF (.gif)"]
Quality = Literal["low", "medium", "high", "maximum"]
WriteMode = Literal["fast", "balanced", "small"]

PixelFormat = Literal["rgb24", "yuv420p", "yuv444p10le"]
"""FFmpeg's name of the format in which an encoder takes frames. The Y'CbCr formats hold limited-range BT.709 colours.

Layout of one frame of H x W pixels as an array:
rgb24: uint8 [H, W, 3], codes 0..255.
yuv420p: uint8 [3 H / 2, W]: the codes of the planes Y [H, W], Cb and Cr [H / 2, W / 2], one plane after the other.
yuv444p10le: uint16 [3, H, W]: the planes Y, Cb and Cr, codes 0..1023.
"""

SOUND_RATE = 48_000
"""Sample rate in Hz of all sound in output files. Opus requires this rate, and the other codecs support it."""

GIF_MAX_RATE = Fraction(50)
"""Highest frame rate of a GIF in frames per second. GIF stores durations in 1/100 s, and 2/100 s is the shortest that
players respect."""


@dataclass(frozen=True)
class SoundFormat:
    """The encoder's settings for a stereo sound track.

    codec, sample_format: FFmpeg's names of the codec and of the type of its samples.
    rate: sample rate in Hz.
    bit_rate: bits per second; None for a lossless codec.
    options: FFmpeg's options for the codec.
    """

    codec: str
    sample_format: str
    rate: int = SOUND_RATE
    bit_rate: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Palette:
    """The colours of a GIF.

    colours: number of colours, 2..256.
    tolerance: makes the file smaller. A pixel keeps its colour from the frame before if the distance (Euclidean, in RGB
        codes) between that colour and the exact one is at most `tolerance`. 0 turns this off.
    """

    colours: int
    tolerance: int


@dataclass(frozen=True)
class OutputFormat:
    """The encoder's settings for an output file, except for the size and rate of the frames.

    container, codec, pix_fmt: FFmpeg's names of the muxer, the codec and the pixel format.
    suffix: suffix of the file's name with its dot, such as ".mp4".
    content_type: the file's MIME type.
    options, container_options: FFmpeg's options for the codec and for the muxer.
    keyframe_s: longest time in seconds between two keyframes. None for GIF and for codecs in which each frame is a
        keyframe.
    sound: settings of the sound track; None if the container has no sound.
    palette: colours of a GIF; None for other formats.
    max_width: wider frames are scaled down to this width in pixels; None means no limit.
    max_rate: highest frame rate in frames per second. At a higher rate, frames are left out. None means no limit.
    """

    container: str
    suffix: str
    content_type: str
    codec: str
    pix_fmt: Literal["yuv420p", "yuv444p10le", "pal8"]
    options: Mapping[str, str] = field(default_factory=dict)
    container_options: Mapping[str, str] = field(default_factory=dict)
    keyframe_s: int | None = None
    sound: SoundFormat | None = None
    palette: Palette | None = None
    max_width: int | None = None
    max_rate: Fraction | None = None

    @property
    def frame_format(self) -> PixelFormat:
        """The pixel format in which the encoder takes frames: RGB for a GIF, otherwise that of the file."""
        return "rgb24" if self.pix_fmt == "pal8" else self.pix_fmt

    @property
    def needs_even_size(self) -> bool:
        """True if width and height must be even, because the colours are stored at half the width and height."""
        return self.pix_fmt == "yuv420p"


X264_DETERMINISTIC: Mapping[str, str] = {"x264-params": "cpu-independent=1"}
"""FFmpeg options that make x264 write the same file on every processor, with or without AVX-512."""

_FASTSTART = {"movflags": "+faststart"}

# The source's own sound is encoded again in each extension, so every quality has the same high bit rate. Noise
# substitution (PNS), intensity stereo and noise shaping (TNS) change the waveform, so they are off. At this bit rate
# the coder "fast" loses less than the default one.
_AAC = SoundFormat(
    "aac",
    "fltp",
    bit_rate=384_000,
    options={"aac_coder": "fast", "aac_pns": "0", "aac_is": "0", "aac_tns": "0"},
)
# Higher bit rates than this one hardly reduce Opus' loss: it always cuts off frequencies above 20 kHz.
_OPUS = SoundFormat("libopus", "flt", bit_rate=256_000)

_X264_CRF: Mapping[Quality, int] = {"low": 28, "medium": 23, "high": 18, "maximum": 12}
# "fast" does not use `veryfast`, because `veryfast` makes smaller files than `medium` at equal crf.
_X264_PRESET: Mapping[WriteMode, str] = {"fast": "superfast", "balanced": "medium", "small": "slower"}

_VP9_CRF: Mapping[Quality, int] = {"low": 40, "medium": 31, "high": 22, "maximum": 15}
_VP9_EFFORT: Mapping[WriteMode, Mapping[str, str]] = {
    "fast": {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"},
    "balanced": {"deadline": "good", "cpu-used": "4", "lag-in-frames": "25"},
    "small": {"deadline": "good", "cpu-used": "2", "lag-in-frames": "25"},
}

_PRORES_Q: Mapping[Quality, int] = {"low": 16, "medium": 9, "high": 4, "maximum": 2}
# FFmpeg's FF_QP2LAMBDA: `global_quality` is this number x the quantiser `q`.
_QP2LAMBDA = 118

_GIF_COLOURS: Mapping[Quality, int] = {"low": 64, "medium": 128, "high": 256, "maximum": 256}
_GIF_RATE: Mapping[Quality, Fraction] = {
    "low": Fraction(25, 2),
    "medium": Fraction(25, 2),
    "high": GIF_MAX_RATE,
    "maximum": GIF_MAX_RATE,
}
_GIF_WIDTH: Mapping[Quality, int | None] = {"low": 480, "medium": 640, "high": 640, "maximum": None}
_GIF_SMALL_WIDTH: Mapping[Quality, int] = {"low": 360, "medium": 480, "high": 480, "maximum": 960}
_GIF_TOLERANCE: Mapping[WriteMode, Mapping[Quality, int]] = {
    "fast": {"low": 0, "medium": 0, "high": 0, "maximum": 0},
    "balanced": {"low": 16, "medium": 12, "high": 8, "maximum": 4},
    "small": {"low": 32, "medium": 24, "high": 16, "maximum": 8},
}


def output_format(type: OutputType, quality: Quality, mode: WriteMode) -> OutputFormat:
    """Returns the encoder's settings for the requested file type, quality and write mode.

    `quality` sets how much detail is lost. `mode` sets how much time the encoder spends to make the file small. In
    ProRes and GIF files, a mode that makes smaller files also loses more detail.
    """
    match type:
        case "X264 (.mp4)":
            return _x264(quality, mode)
        case "VP9 (.webm)":
            return _vp9(quality, mode)
        case "PRORES4444 (.mov)":
            return _prores(quality, mode)
        case "GIF (.gif)":
            return _gif(quality, mode)


def _x264(quality: Quality, mode: WriteMode) -> OutputFormat:
    return OutputFormat(
        container="mp4",
        suffix=".mp4",
        content_type="video/mp4",
        codec="libx264",
        pix_fmt="yuv420p",
        options={
            "preset": _X264_PRESET[mode],
            "crf": str(_X264_CRF[quality]),
            "profile": "high",
            **X264_DETERMINISTIC,
        },
        container_options=_FASTSTART,
        keyframe_s=2,
        sound=_AAC,
    )


def _vp9(quality: Quality, mode: WriteMode) -> OutputFormat:
    # Without `bitexact` the muxer writes a random number, and files of equal videos differ.
    constant_quality = {"crf": str(_VP9_CRF[quality]), "b": "0"}
    return OutputFormat(
        container="webm",
        suffix=".webm",
        content_type="video/webm",
        codec="libvpx-vp9",
        pix_fmt="yuv420p",
        options={**constant_quality, "row-mt": "1", "tile-columns": "2", **_VP9_EFFORT[mode]},
        container_options={"fflags": "+bitexact"},
        keyframe_s=4,
        sound=_OPUS,
    )


def _prores(quality: Quality, mode: WriteMode) -> OutputFormat:
    # This codec has no useful slower search, so "small" uses a coarser quantiser instead.
    q = Fraction(_PRORES_Q[quality]) * (Fraction(3, 2) if mode == "small" else 1)
    return OutputFormat(
        container="mov",
        suffix=".mov",
        content_type="video/quicktime",
        codec="prores_ks",
        pix_fmt="yuv444p10le",
        options={
            "profile": "4444xq" if quality == "maximum" else "4444",
            "vendor": "apl0",
            "flags": "+qscale",
            "global_quality": str(int(_QP2LAMBDA * q)),
        },
        container_options=_FASTSTART,
        sound=SoundFormat("pcm_s24le", "s32"),
    )


def _gif(quality: Quality, mode: WriteMode) -> OutputFormat:
    return OutputFormat(
        container="gif",
        suffix=".gif",
        content_type="image/gif",
        codec="gif",
        pix_fmt="pal8",
        palette=Palette(_GIF_COLOURS[quality], _GIF_TOLERANCE[mode][quality]),
        max_width=_GIF_SMALL_WIDTH[quality] if mode == "small" else _GIF_WIDTH[quality],
        max_rate=_GIF_RATE[quality],
    )
