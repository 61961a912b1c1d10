"""Reads finished files with PyAV alone: stored planes and samples, without swscale and without the package's reader."""

from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray


def luma(path: Path) -> NDArray[np.float64]:
    """Returns the luma of all stored frames, [t, H, W], as codes of 8 bits (deeper ones are scaled to that)."""
    with av.open(str(path)) as file:
        return np.stack([_plane(frame) for frame in file.decode(video=0)])


def planes(path: Path) -> NDArray[np.float64]:
    """Returns all stored frames of a file whose planes have one size, [t, planes, H, W], as codes of 8 bits."""
    with av.open(str(path)) as file:
        return np.stack(
            [np.stack([_plane(frame, n) for n in range(len(frame.planes))]) for frame in file.decode(video=0)]
        )


def _plane(frame: Any, number: int = 0) -> NDArray[np.float64]:
    plane, bits = frame.planes[number], frame.format.components[number].bits
    kind: Any = np.uint8 if bits == 8 else "<u2"
    rows: NDArray[np.float64] = np.frombuffer(plane, kind).reshape(plane.height, -1)[:, : plane.width] / 2.0 ** (
        bits - 8
    )
    return rows


def length(path: Path) -> tuple[int, float]:
    """Returns the number of stored frames, and the seconds from the start of the first one to the end of the last."""
    with av.open(str(path)) as file:
        times = sorted((packet.pts, packet.duration) for packet in file.demux(video=0) if packet.size)
        return len(times), float((sum(times[-1]) - times[0][0]) * file.streams.video[0].time_base)


def sound(path: Path, track: int = 0) -> NDArray[np.float64]:
    """Returns the decoded samples [channels, n] of a sound track, as floats in -1..1."""
    with av.open(str(path)) as file:
        return np.concatenate([_samples(frame) for frame in file.decode(audio=track)], axis=1)


def _samples(frame: Any) -> NDArray[np.float64]:
    stored = frame.to_ndarray()
    planes = stored if frame.format.is_planar else stored.reshape(-1, frame.layout.nb_channels).T
    full_scale = 1.0 if stored.dtype.kind == "f" else -float(np.iinfo(stored.dtype).min)
    scaled: NDArray[np.float64] = planes / full_scale
    return scaled


def loss_db(source: NDArray[Any], heard: NDArray[Any]) -> float:
    """Returns the level of the source's samples [channels, n] above that of their difference from `heard`, in dB."""
    return float(10 * np.log10(np.square(source).sum() / np.square(heard - source).sum()))
