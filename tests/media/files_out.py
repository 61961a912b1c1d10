"""Helpers for tests of encoded files: moving pictures to encode, and a reader of all that is in a file."""

import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

BT709_LIMITED = (1, 1, 1, 1)


def moving(num_frames: int, height: int = 64, width: int = 64) -> NDArray[np.uint8]:
    """Frames [t, H, W, 3] of moving waves with fine grain that stands still."""
    y, x = np.mgrid[:height, :width]
    grain = np.random.default_rng(7).normal(0, 5, (height, width, 3))
    frames = [
        np.stack([np.sin(x / 9 + t / 4), np.sin(y / 7 - t / 5), np.sin((x + y) / 11 + t / 3)], -1) * 90 + 128 + grain
        for t in range(num_frames)
    ]
    return np.stack(frames).clip(0, 255).round().astype(np.uint8)


@dataclass(frozen=True)
class FileFacts:
    """The content of a file: `tags` are colour range, matrix, primaries and transfer; `sound` is [2, n] or None."""

    codec: str
    rate: Fraction
    times: list[Fraction]
    tags: tuple[int, int, int, int]
    frames: NDArray[np.uint8]
    sound_codec: str | None
    sound: NDArray[np.float32] | None


def read(path: Path) -> FileFacts:
    with av.open(str(path)) as file:
        video = file.streams.video[0]
        codec, rate = video.codec_context.name, video.average_rate
        pictures = list(file.decode(video))
        first = pictures[0]
        assert rate is not None
        sound_codec = file.streams.audio[0].codec_context.name if file.streams.audio else None
        return FileFacts(
            codec=codec,
            rate=rate,
            times=[Fraction(p.pts or 0) * (p.time_base or 1) for p in pictures],
            tags=(first.color_range, first.colorspace, first.color_primaries, first.color_trc),
            frames=np.stack([p.to_ndarray(format="rgb24") for p in pictures]).astype(np.uint8),
            sound_codec=sound_codec,
            sound=_sound(path) if sound_codec else None,
        )


def _sound(path: Path) -> NDArray[np.float32]:
    with av.open(str(path)) as file:
        resampler = av.AudioResampler(format="fltp", layout="stereo", rate=48_000)
        heard = [block for frame in file.decode(audio=0) for block in resampler.resample(frame)]
        heard += resampler.resample(None)
        return np.concatenate([block.to_ndarray() for block in heard], axis=1).astype(np.float32)


def boxes(path: Path) -> list[str]:
    """The names of the top-level boxes of an MP4 or MOV file, in order."""
    data, names, at = path.read_bytes(), [], 0
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        if size == 1:
            (size,) = struct.unpack(">Q", data[at + 8 : at + 16])
        names.append(name.decode("latin1"))
        at += size
    return names
