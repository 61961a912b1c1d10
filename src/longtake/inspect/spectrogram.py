"""Draws the spectrogram of the sound around a joint, where source and new sound meet. Time runs to the right and
frequency upwards."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from longtake.inspect.sheet import BACKGROUND, FAINT_TEXT, JOINT, MARGIN, NEW, SOURCE, TEXT, Colour, font
from longtake.media.formats import SOUND_RATE

SPAN_S = 2.0
"""Seconds that are shown before the joint (where source and new sound meet), and after it."""

_WINDOW = 2048
_LOWEST_HZ, _HIGHEST_HZ = 30.0, 20_000.0
_FLOOR_DBFS = -96.0
_HEIGHT = 240
_FINER = 4
"""Number of frequencies whose level is computed for each row of pixels. The row shows the highest of these levels, so
that no partial is missed."""

_HEADER = 46
_STRIP = 6
_AXIS = 34
_BAR = 6
_GAP = 10
_LABELS = 52
_MARKS_HZ = (100, 500, 1000, 2000, 5000, 10_000)
_BLOCK = 256

_COLOURS: tuple[Colour, ...] = (BACKGROUND, (44, 66, 116), (150, 72, 132), NEW, (255, 246, 222))
"""The colours of levels from silence to full scale, at equal distances in dB. Colours between them are interpolated."""


def spectrogram(
    sound: NDArray[np.float32],
    joint: int,
    width: int,
    sound_rate: int = SOUND_RATE,
    *,
    first_s: float = 0.0,
    new_first: bool = False,
) -> Image.Image:
    """Returns the spectrogram of `sound` [2, n] from 2 s before the joint to 2 s after it.

    The joint is where source and new sound meet; bars mark it. A coloured strip above the channels shows which part is
    the source's sound and which is new. The left channel is above the right one; equal channels are drawn once.

    joint: index of the first sample after the joint.
    width: width of the picture in pixels. Its height is 330 pixels for one drawn channel and 580 for two.
    sound_rate: samples per second.
    first_s: time in the video of the first sample, in seconds, for the labels.
    new_first: True if the new sound is before the joint, False if it is after it.
    """
    alike = np.array_equal(sound[0], sound[1])
    channels = [("both", sound[0])] if alike else [("left", sound[0]), ("right", sound[1])]
    pitch = _HEIGHT + _GAP
    picture = Image.new("RGB", (width, _HEADER + len(channels) * pitch + _AXIS), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    left, right = MARGIN + _LABELS, width - MARGIN
    middle = (left + right) // 2
    pixel_s = 2 * SPAN_S / (right - left)
    columns = joint / sound_rate + (np.arange(left, right) + 0.5 - middle) * pixel_s
    top, bottom = _HEADER, _HEADER + len(channels) * pitch - _GAP
    draw.text((MARGIN, 4), "The sound around the joint", TEXT, font(20))
    for row, (name, samples) in enumerate(channels):
        y = top + row * pitch
        levels = _levels(samples, np.round(columns * sound_rate).astype(np.int64), sound_rate)
        picture.paste(Image.fromarray(_coloured(levels)), (left, y))
        draw.text((left - 10, y + 8), name, TEXT, font(13), anchor="rm")
        for hz in _MARKS_HZ:
            at = y + _row_of(hz)
            draw.text(
                (left - 10, at), f"{hz // 1000} kHz" if hz >= 1000 else str(hz), FAINT_TEXT, font(13), anchor="rm"
            )
            draw.line((left - 6, at, left - 1, at), FAINT_TEXT)
    sides = (NEW, SOURCE) if new_first else (SOURCE, NEW)
    begins, ends = np.searchsorted(columns, (0, sound.shape[1] / sound_rate)) + left
    for first, last, colour in ((begins, middle - 1, sides[0]), (middle, ends - 1, sides[1])):
        draw.rectangle((first, top - _STRIP - 4, max(first, last), top - 5), colour)
    for y in (top - _STRIP - 8, bottom + 3):
        draw.rectangle((middle - _BAR // 2, y, middle + _BAR // 2 - 1, y + _STRIP + 4), JOINT)
    _times(draw, first_s + joint / sound_rate, middle, pixel_s, (left, right), bottom)
    return picture


def _levels(samples: NDArray[np.float32], centres: NDArray[np.int64], sound_rate: int) -> NDArray[np.float32]:
    """Returns the levels [rows, columns] of one channel's spectrogram, in dB relative to full scale.

    A row is a frequency, the highest one first. A column is a time: that of one sample.

    samples: the channel, [n].
    centres: for each column, the index of its sample. A column is silent if the index is outside `samples`.
    sound_rate: samples per second.
    """
    half = _WINDOW // 2
    padded = np.pad(samples, (half, half + 1))
    window = np.hanning(_WINDOW + 1)[:-1].astype(np.float32)
    edges = _hertz(np.arange(_HEIGHT * _FINER) / _FINER)
    lines = edges * _WINDOW / sound_rate
    lower = np.minimum(lines.astype(np.int64), half - 1)
    share = (lines - lower).astype(np.float32)
    inside = (centres >= 0) & (centres < samples.size)
    out = np.full((_HEIGHT, centres.size), _FLOOR_DBFS, np.float32)
    for start in range(0, centres.size, _BLOCK):
        index = np.flatnonzero(inside[start : start + _BLOCK]) + start
        pieces = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[centres[index]]
        size = np.abs(np.fft.rfft(pieces * window, axis=1)) / (window.sum() / 2)
        finer = size[:, lower] * (1 - share) + size[:, lower + 1] * share
        loudest = finer.reshape(index.size, _HEIGHT, _FINER).max(axis=2)
        out[:, index] = 20 * np.log10(np.maximum(loudest, 10 ** (_FLOOR_DBFS / 20))).T
    return out


def _coloured(levels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Returns the RGB colours [H, W, 3] with which levels [H, W], in dB relative to full scale, are drawn."""
    place = np.clip(1 - levels / _FLOOR_DBFS, 0, 1) * (len(_COLOURS) - 1)
    stops = np.arange(len(_COLOURS))
    colours = np.array(_COLOURS, np.float64)
    return np.stack([np.interp(place, stops, colours[:, c]) for c in range(3)], axis=-1).round().astype(np.uint8)


def _mel(hertz: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Returns mels (O'Shaughnessy 1987) for frequencies in Hz."""
    mels: NDArray[np.float64] = 2595 * np.log10(1 + np.asarray(hertz) / 700)
    return mels


def _hertz(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the frequencies in Hz that the spectrogram shows at `rows`.

    rows: distances from its top edge in rows of pixels; fractions are possible.
    """
    mels = _mel(_HIGHEST_HZ) - rows / _HEIGHT * (_mel(_HIGHEST_HZ) - _mel(_LOWEST_HZ))
    return 700 * (10 ** (mels / 2595) - 1)


def _row_of(hertz: float) -> int:
    """Returns the spectrogram's row of pixels that shows the frequency `hertz` in Hz; 0 is the top row."""
    return round(float((_mel(_HIGHEST_HZ) - _mel(hertz)) / (_mel(_HIGHEST_HZ) - _mel(_LOWEST_HZ)) * _HEIGHT))


def _times(
    draw: ImageDraw.ImageDraw, joint_s: float, middle: int, pixel_s: float, sides: tuple[int, int], y: int
) -> None:
    """Draws the time axis: the time of the joint (where source and new sound meet) as text, and a labelled mark for
    each half second before and after it.

    joint_s: time of the joint in the video, in seconds.
    middle: x coordinate of the joint in pixels.
    pixel_s: seconds per pixel.
    sides: least and largest x coordinate of a mark.
    y: upper end of the marks.
    """
    draw.text((middle, y + 16), f"{joint_s:.3f} s", TEXT, font(15), anchor="ma")
    for half_seconds in range(-round(2 * SPAN_S), round(2 * SPAN_S) + 1):
        x = middle + round(half_seconds / 2 / pixel_s)
        if half_seconds and sides[0] <= x <= sides[1]:
            draw.line((x, y, x, y + 5), FAINT_TEXT)
            anchor = "ra" if x > sides[1] - 30 else "la" if x < sides[0] + 30 else "ma"
            draw.text((x, y + 8), f"{half_seconds / 2:+g} s", FAINT_TEXT, font(13), anchor=anchor)
