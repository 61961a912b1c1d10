"""Strips: the frames on them are those in the middle of equal parts of the video."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from longtake.derived import strip
from longtake.derived.strip import draw_strip, frame_width, shown_numbers
from longtake.media.source import open_source
from longtake.video import VideoInfo
from tests.media.clips import X264_SHORT_GOP, Clip, number_of

pytestmark = pytest.mark.usefixtures("forked_decoders")


@pytest.mark.parametrize("in_order", [strip._IN_ORDER, 0])
def test_the_frames_are_evenly_spaced(tmp_path: Path, in_order: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strip, "_IN_ORDER", in_order)
    path, out = Clip("a.mp4", frames=50, options=X264_SHORT_GOP).write(tmp_path), tmp_path / "strip"
    with open_source(path) as source:
        assert draw_strip(source, out, frames=4, height=48) == {"count": 4, "width": 64, "height": 48}
    with Image.open(out) as picture:
        assert (picture.format, picture.size) == ("JPEG", (256, 48))
        cells = np.split(np.asarray(picture), 4, axis=1)
    assert [number_of(cell) for cell in cells] == shown_numbers(50, 4) == [6, 18, 31, 43]


def test_a_short_video_shows_each_frame_once(tmp_path: Path) -> None:
    path, out = Clip("a.mp4", frames=3).write(tmp_path), tmp_path / "strip"
    with open_source(path) as source:
        assert draw_strip(source, out, frames=24, height=24)["count"] == 3
    with Image.open(out) as picture:
        assert [number_of(cell) for cell in np.split(np.asarray(picture), 3, axis=1)] == [0, 1, 2]


def test_one_frame_is_the_middle_one() -> None:
    assert shown_numbers(25, 1) == [12]


@pytest.mark.parametrize(("size", "width"), [((1920, 1080), 128), ((1080, 1920), 40), ((8000, 16), 288), ((2, 900), 1)])
def test_the_width_of_a_frame(size: tuple[int, int], width: int) -> None:
    assert frame_width(VideoInfo("mp4", "h264", *size, Fraction(24), 24), 72) == width
