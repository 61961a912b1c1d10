"""The spectrogram: sounds are drawn at their time and pitch, and nothing covers the joint."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from longtake.inspect import sheet
from longtake.inspect.spectrogram import SPAN_S, spectrogram

WIDTH = 1000
JOINT = 96_000


def tone(hz: float, length: int, level: float = 0.3) -> NDArray[np.float32]:
    mono = level * np.sin(2 * np.pi * hz * np.arange(length) / 48_000)
    return np.stack([mono, mono]).astype(np.float32)


def lightness(image: Image.Image) -> NDArray[np.float64]:
    """The lightness of the spectrogram, 240 pixels high, without text and strips."""
    grey = np.asarray(image.convert("L"), np.float64)
    return grey[46:286, 80 : WIDTH - 28]


def column(seconds_after_joint: float) -> int:
    """The column of that time in `lightness`."""
    width = WIDTH - 108
    return round(width / 2 + seconds_after_joint / (2 * SPAN_S) * width)


def marked(image: Image.Image, colour: sheet.Colour) -> NDArray[np.int64]:
    """The pixels [n, (row, column)] of exactly this colour."""
    return np.argwhere((np.asarray(image) == colour).all(axis=-1))


def test_a_tone_is_a_line_and_a_higher_tone_is_higher() -> None:
    rows = []
    for hz in (200, 1000, 4000, 12_000):
        light = lightness(spectrogram(tone(hz, 2 * JOINT), JOINT, WIDTH))[:, 100:-100]
        rows.append(int(light.mean(axis=1).argmax()))
        assert light.argmax(axis=0) == pytest.approx(rows[-1], abs=2)
        assert light.max() > 4 * np.median(light)
    assert rows == sorted(rows, reverse=True)


@pytest.mark.parametrize("seconds", [-1.5, 0.0, 0.25, 1.9])
def test_a_click_is_a_vertical_line_at_its_time(seconds: float) -> None:
    sound = np.zeros((2, 2 * JOINT), np.float32)
    sound[:, JOINT + round(seconds * 48_000)] = 1
    light = lightness(spectrogram(sound, JOINT, WIDTH)).mean(axis=0)
    lit = np.flatnonzero(light > 0.9 * light.max())
    assert lit.mean() == pytest.approx(column(seconds), abs=2)


def test_louder_sound_is_lighter() -> None:
    peaks = [lightness(spectrogram(tone(1000, 2 * JOINT, level), JOINT, WIDTH)).max() for level in (0.001, 0.03, 0.9)]
    assert peaks[0] + 20 < peaks[1] < peaks[2] - 20


def test_times_outside_the_sound_are_empty() -> None:
    """The joint stays in the middle, also of a short sound."""
    light = lightness(spectrogram(tone(1000, 48_000), 24_000, WIDTH))
    shown = light.max(axis=0) > 60
    assert not shown[: column(-0.5) - 1].any()
    assert shown[column(-0.5) + 1 : column(0.5) - 1].all()
    assert not shown[column(0.5) + 1 :].any()


def test_the_joint_and_the_sides_are_marked_outside_the_picture() -> None:
    sound = tone(1000, 2 * JOINT)
    for new_first in (False, True):
        image = spectrogram(sound, JOINT, WIDTH, first_s=3.0, new_first=new_first)
        bar, source, new = (marked(image, colour) for colour in (sheet.JOINT, sheet.SOURCE, sheet.NEW))
        assert bar[:, 1].mean() == pytest.approx(80 + column(0), abs=1)
        assert not ((bar[:, 0] >= 46) & (bar[:, 0] < 286)).any()
        strips = source[source[:, 0] < 46], new[new[:, 0] < 46]
        assert (strips[0][:, 1].max() < strips[1][:, 1].min()) != new_first


def test_different_channels_are_drawn_separately() -> None:
    sound = tone(1000, 2 * JOINT)
    one = spectrogram(sound, JOINT, WIDTH)
    sound[1] = 0
    two = spectrogram(sound, JOINT, WIDTH)
    assert two.height == one.height + 250
    np.testing.assert_array_equal(np.asarray(two)[46:286, 80:-28], np.asarray(one)[46:286, 80:-28])
    assert np.asarray(two.convert("L"))[296:536, 80:-28].max() < 40


@pytest.mark.parametrize(("length", "joint", "width"), [(1, 0, 300), (100, 100, 700), (0, 0, 500), (500_000, 2, 2036)])
def test_any_length_and_width_is_drawn(length: int, joint: int, width: int) -> None:
    assert spectrogram(tone(300, length), joint, width).width == width
