"""How well the joint holds, in figures: what jumps where the source ends and the new frames begin."""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from longtake.media.formats import SOUND_RATE

Frames = NDArray[np.uint8]
_Luma = NDArray[np.float32]

LOUDNESS_WINDOW_S = 0.1
SILENCE_DBFS = -60.0
"""Below this, in dB of full scale, nothing is heard and a ratio of loudness says nothing."""

_BLOCK = 32
_MOTION_WIDTH = 256
_FLAT = 0.5
"""A block whose luma deviates less from its mean, in code values, has no motion to be seen."""

_STILL = 0.1
"""Motion below this, in pixels of the small picture, is measurement noise; added to both sides of the ratio."""


@dataclass(frozen=True)
class JointFigures:
    """What changes at the joint, each figure with what a joint that nobody sees would show.

    colour_shift: mean over R, G, B of |change of the channel's mean| from the last frame before to the first after,
        in 8-bit code values; as small as `usual_colour_shift`, the median of the same between neighbours elsewhere.
    sharpness_ratio: gradient energy (mean squared luma step to the next pixel) after / before; 1.
    difference_ratio: mean absolute pixel change across the joint / median of it between neighbours elsewhere; 1;
        0 for a repeated frame, large for a cut. Where nothing else changes, 1 code value stands for the median.
    motion_ratio: how fast things move after / before, see `speed`; 1; 0 for a frozen picture.
    loudness_step_db: RMS of 100 ms after / before; 0; None without sound or with silence on either side.
    """

    colour_shift: float
    usual_colour_shift: float
    sharpness_ratio: float
    difference_ratio: float
    motion_ratio: float
    loudness_step_db: float | None


def joint_figures(
    before: Frames,
    after: Frames,
    sound: NDArray[np.float32] | None = None,
    sound_rate: int = SOUND_RATE,
    joint_s: float = 0.0,
) -> JointFigures:
    """The figures of a joint between frames `before` [a, H, W, 3] and `after` [b, H, W, 3], in playing order.

    Two frames at least on each side; eight or more make the neighbours' median trustworthy. `sound` [2, n] is that
    of the whole video and `joint_s` where in it the joint is, in seconds.
    """
    if len(before) < 2 or len(after) < 2:
        raise ValueError(f"A joint needs two frames on each side, not {len(before)} and {len(after)}.")
    frames = np.concatenate([before, after])
    colour = np.abs(np.diff(frames.mean(axis=(1, 2), dtype=np.float64), axis=0)).mean(axis=1)
    change = _changes(frames)
    joint = len(before) - 1
    return JointFigures(
        colour_shift=float(colour[joint]),
        usual_colour_shift=float(np.median(np.delete(colour, joint))),
        sharpness_ratio=_ratio(_sharpness(after), _sharpness(before), 1e-6),
        difference_ratio=float(change[joint]) / (float(np.median(np.delete(change, joint))) or 1.0),
        motion_ratio=_ratio(speed(after), speed(before), _STILL),
        loudness_step_db=None if sound is None else loudness_step(sound, round(joint_s * sound_rate), sound_rate),
    )


def speed(frames: Frames) -> float:
    """How fast the picture moves: mean length of the motion per frame, in pixels of a picture 256 wide.

    Each 32 x 32 block's shift to the next frame is found by phase correlation (Kuglin & Hines 1975) to the whole
    pixel, then to a part of it by a parabola through the peak; blocks count by their contrast, flat ones not at all.
    """
    steps = [_motion(_small_luma(first), _small_luma(second)) for first, second in itertools.pairwise(frames)]
    return float(np.mean(steps))


def loudness_step(sound: NDArray[np.float32], joint: int, sound_rate: int = SOUND_RATE) -> float | None:
    """Loudness after sample `joint` against before it, in dB; None where either side is silent or has no sample."""
    window = round(LOUDNESS_WINDOW_S * sound_rate)
    sides = sound[:, max(0, joint - window) : joint], sound[:, joint : joint + window]
    levels = [float(np.sqrt(np.mean(np.square(side, dtype=np.float64)))) if side.size else 0.0 for side in sides]
    if min(levels) < 10 ** (SILENCE_DBFS / 20):
        return None
    return float(20 * np.log10(levels[1] / levels[0]))


def _ratio(after: float, before: float, floor: float) -> float:
    return (after + floor) / (before + floor)


def _changes(frames: Frames) -> NDArray[np.float64]:
    pairs = itertools.pairwise(frames)
    return np.array([np.abs(second.astype(np.int16) - first).mean() for first, second in pairs])


def _luma(frame: Frames) -> _Luma:
    """BT.709 weights on the stored values."""
    weighted: _Luma = frame.astype(np.float32) @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    return weighted


def _sharpness(frames: Frames) -> float:
    lumas = (_luma(frame) for frame in frames)
    return float(np.mean([np.square(np.diff(y, axis=0)).mean() + np.square(np.diff(y, axis=1)).mean() for y in lumas]))


def _small_luma(frame: Frames) -> _Luma:
    """Luma averaged over whole pixels down to about 256 wide."""
    luma = _luma(frame)
    step = max(1, luma.shape[1] // _MOTION_WIDTH)
    height, width = luma.shape[0] // step * step, luma.shape[1] // step * step
    mean: _Luma = luma[:height, :width].reshape(height // step, step, width // step, step).mean(axis=(1, 3))
    return mean


def _blocks(luma: _Luma) -> _Luma:
    """Non-overlapping blocks [n, size, size]; the picture's middle as one block where it is smaller than a block."""
    size = min(_BLOCK, *luma.shape)
    rows, columns = luma.shape[0] // size, luma.shape[1] // size
    grid = luma[: rows * size, : columns * size].reshape(rows, size, columns, size)
    return grid.swapaxes(1, 2).reshape(-1, size, size)


def _motion(first: _Luma, second: _Luma) -> float:
    """Mean length of the blocks' shifts, in pixels, weighted by the blocks' contrast."""
    one, other = _blocks(first), _blocks(second)
    contrast = one.std(axis=(1, 2))
    contrast = np.where(contrast < _FLAT, 0, contrast)
    size = one.shape[-1]
    window = np.outer(np.hanning(size), np.hanning(size))
    spectra = [np.fft.rfft2((b - b.mean(axis=(1, 2), keepdims=True)) * window) for b in (one, other)]
    cross = spectra[0].conj() * spectra[1]
    peaks = np.fft.irfft2(cross / (np.abs(cross) + 1e-3), s=(size, size))
    lengths = np.hypot(*_peak_shifts(peaks))
    return float(np.average(lengths, weights=contrast)) if contrast.any() else 0.0


def _peak_shifts(surfaces: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where each surface [n, size, size] is highest, as signed shifts (down, right) in pixels."""
    size = surfaces.shape[-1]
    index = np.arange(len(surfaces))
    row, column = np.divmod(surfaces.reshape(len(surfaces), -1).argmax(axis=1), size)
    at = surfaces[index, row, column]

    def offset(lower: NDArray[np.float64], upper: NDArray[np.float64]) -> NDArray[np.float64]:
        bend = lower - 2 * at + upper
        return np.where(bend < 0, (lower - upper) / (2 * np.where(bend < 0, bend, 1)), 0.0)

    down = row + offset(surfaces[index, row - 1, column], surfaces[index, (row + 1) % size, column])
    right = column + offset(surfaces[index, row, column - 1], surfaces[index, row, (column + 1) % size])
    return (down + size / 2) % size - size / 2, (right + size / 2) % size - size / 2
