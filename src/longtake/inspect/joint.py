"""Measures how much colour, sharpness, motion and loudness change at a joint, where source and new frames meet."""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from longtake.media.formats import SOUND_RATE

Frames = NDArray[np.uint8]
"""RGB frames [t, H, W, 3], or one frame [H, W, 3]."""

_Luma = NDArray[np.float32]

LOUDNESS_WINDOW_S = 0.1
"""Seconds of sound before and after the joint (where source and new frames meet) whose loudness is compared."""

SILENCE_DBFS = -60.0
"""RMS level in dB relative to full scale. Sound below it counts as silent."""

_BLOCK = 32
"""Side in pixels of the square blocks whose motion is measured."""

_MOTION_WIDTH = 256
"""Approximate width in pixels to which frames are scaled down before their motion is measured."""

_MIN_CONTRAST = 0.5
"""Lowest standard deviation of luma (0..255) in a block whose motion is measured. That of flatter blocks cannot be."""

_MOTION_NOISE = 0.1
"""Motion in pixels per frame that is measurement noise. It is added to the motion before the joint (where source and
new frames meet) and to that after it, before the two are divided."""


@dataclass(frozen=True)
class JointFigures:
    """How much picture and sound change at a joint, where source and new frames meet.

    At an invisible joint, ratios are near 1, the loudness step is near 0, and the colour shift is near the usual one.

    colour_shift: how much the mean of a colour channel changes between the two frames at the joint, in 8-bit code
        values (absolute, mean of the three channels).
    usual_colour_shift: the median of the colour shift for all other pairs of neighbouring frames.
    sharpness_ratio: sharpness after the joint divided by sharpness before it. Sharpness is the mean squared difference
        of luma between neighbouring pixels.
    difference_ratio: the mean absolute difference of the pixels of the two frames at the joint, divided by the median
        of this difference for all other pairs of neighbouring frames (by 1 code value if the median is 0). A repeated
        frame gives 0, a cut gives a large value.
    motion_ratio: motion after the joint divided by motion before it, as measured by `speed`. A frozen picture after the
        joint gives about 0.
    loudness_step_db: how much louder the 100 ms after the joint are than the 100 ms before it (RMS, in dB). None if
        there is no sound or one side is silent.
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
    """Returns how much picture and sound change at the joint, where source and new frames meet.

    before, after: the last frames before the joint and the first ones after it, each [t, H, W, 3]. The change at the
        joint is compared with the changes between the other neighbouring frames. Eight or more frames on each side make
        these reliable.
    sound: the sound around the joint, [2, n]; None if the video has none.
    sound_rate: samples of `sound` per second.
    joint_s: the time of the joint in seconds after the first sample of `sound`.

    Raises ValueError if `before` or `after` has fewer than two frames.
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
        motion_ratio=_ratio(speed(after), speed(before), _MOTION_NOISE),
        loudness_step_db=None if sound is None else loudness_step(sound, round(joint_s * sound_rate), sound_rate),
    )


def speed(frames: Frames) -> float:
    """Returns how far the picture moves from one of `frames` [t, H, W, 3] to the next, in pixels, as a mean.

    Frames wider than 511 pixels are scaled down first, to a width of 256 to 383 pixels; the result counts these pixels.
    Phase correlation (Kuglin & Hines 1975) finds how far each block of 32 x 32 pixels moves. A parabola through the
    correlation's peak gives fractions of a pixel. Blocks with more contrast have more weight in the mean.
    """
    steps = [_motion(_small_luma(first), _small_luma(second)) for first, second in itertools.pairwise(frames)]
    return float(np.mean(steps))


def loudness_step(sound: NDArray[np.float32], joint: int, sound_rate: int = SOUND_RATE) -> float | None:
    """Returns how many dB louder the 100 ms from sample `joint` on are than the 100 ms before it; negative if quieter.

    Returns None if one of the two parts is silent or empty. `sound` is [2, n] with `sound_rate` samples per second.
    """
    window = round(LOUDNESS_WINDOW_S * sound_rate)
    sides = sound[:, max(0, joint - window) : joint], sound[:, joint : joint + window]
    levels = [float(np.sqrt(np.mean(np.square(side, dtype=np.float64)))) if side.size else 0.0 for side in sides]
    if min(levels) < 10 ** (SILENCE_DBFS / 20):
        return None
    return float(20 * np.log10(levels[1] / levels[0]))


def _ratio(after: float, before: float, floor: float) -> float:
    return (after + floor) / (before + floor)


def _changes(frames: Frames) -> NDArray[np.float64]:
    """Returns how much each of `frames` [t, H, W, 3] differs from the next one, [t - 1].

    Each value is the mean absolute difference of all pixels and channels, 0..255.
    """
    pairs = itertools.pairwise(frames)
    return np.array([np.abs(second.astype(np.int16) - first).mean() for first, second in pairs])


def _luma(frame: Frames) -> _Luma:
    """Returns a frame's luma [H, W] in 0..255 with the weights of BT.709."""
    weighted: _Luma = frame.astype(np.float32) @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    return weighted


def _sharpness(frames: Frames) -> float:
    """Returns the sharpness of `frames` [t, H, W, 3] as one number: the mean over the frames.

    The sharpness of a frame is the mean squared difference of luma (0..255) between neighbouring pixels, computed
    for horizontal and for vertical neighbours and added up.
    """
    lumas = (_luma(frame) for frame in frames)
    return float(np.mean([np.square(np.diff(y, axis=0)).mean() + np.square(np.diff(y, axis=1)).mean() for y in lumas]))


def _small_luma(frame: Frames) -> _Luma:
    """Returns a frame's luma, scaled down by the largest integer factor that leaves a width of 256 pixels or more.

    A frame that is narrower than 512 pixels keeps its size.
    """
    luma = _luma(frame)
    step = max(1, luma.shape[1] // _MOTION_WIDTH)
    height, width = luma.shape[0] // step * step, luma.shape[1] // step * step
    mean: _Luma = luma[:height, :width].reshape(height // step, step, width // step, step).mean(axis=(1, 3))
    return mean


def _blocks(luma: _Luma) -> _Luma:
    """Returns the luma [H, W] cut into n square blocks, [n, size, size].

    `size` is 32, or the shorter side of a smaller picture. Pixels at the right and lower edges that do not fill a block
    are left out.
    """
    size = min(_BLOCK, *luma.shape)
    rows, columns = luma.shape[0] // size, luma.shape[1] // size
    grid = luma[: rows * size, : columns * size].reshape(rows, size, columns, size)
    return grid.swapaxes(1, 2).reshape(-1, size, size)


def _motion(first: _Luma, second: _Luma) -> float:
    """Returns the mean distance in pixels by which blocks of `first` have moved in `second`, the next frame's luma.

    Blocks are weighted by their contrast. The result is 0 if no block has enough contrast.
    """
    one, other = _blocks(first), _blocks(second)
    contrast = one.std(axis=(1, 2))
    contrast = np.where(contrast < _MIN_CONTRAST, 0, contrast)
    size = one.shape[-1]
    window = np.outer(np.hanning(size), np.hanning(size))
    spectra = [np.fft.rfft2((b - b.mean(axis=(1, 2), keepdims=True)) * window) for b in (one, other)]
    cross = spectra[0].conj() * spectra[1]
    peaks = np.fft.irfft2(cross / (np.abs(cross) + 1e-3), s=(size, size))
    lengths = np.hypot(*_peak_shifts(peaks))
    return float(np.average(lengths, weights=contrast)) if contrast.any() else 0.0


def _peak_shifts(surfaces: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the shift (down [n], right [n]) in pixels at which each correlation surface [n, size, size] peaks.

    Shifts are in -size/2..size/2.
    """
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
