"""Comments in video files, written by the encoder and read by others, and the tags that a child process sends."""

from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import av
import numpy as np
import pytest
from PIL import Image

from longtake.media.encode import Encoder
from longtake.media.formats import OutputType, output_format
from longtake.media.source import open_source
from longtake.media.tags import MOST_COMMENT_BYTES, checked_tags
from tests.media.clips import Clip
from tests.media.files_out import moving, read

pytestmark = pytest.mark.usefixtures("forked_decoders")

COMMENT = "\u65e5\u672c \u200b \U0001f600 \u00e9 " * 100


@pytest.mark.parametrize("type_", get_args(OutputType))
def test_the_comment_of_every_output_type_is_read_back(type_: OutputType, tmp_path: Path) -> None:
    paths = [tmp_path / "plain", tmp_path / "commented"]
    for path, comment in zip(paths, ("", COMMENT), strict=True):
        with Encoder(path, output_format(type_, "low", "fast"), 64, 64, Fraction(25), comment=comment) as file:
            file.write(moving(5))
            file.write_sound(np.zeros((2, 9600), np.float32))
    with av.open(str(paths[1])) as media:
        assert {name.lower(): text for name, text in media.metadata.items()}["comment"] == COMMENT
    with open_source(paths[1]) as source:
        assert source.tags().comment == COMMENT
        facts = source.facts
    with open_source(paths[0]) as source:
        assert source.tags().comment == ""
        assert source.facts == facts
    np.testing.assert_array_equal(read(paths[0]).frames, read(paths[1]).frames)


def test_a_gif_with_a_comment_is_one_for_other_programs(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    with Encoder(path, output_format("GIF (.gif)", "low", "fast"), 64, 64, Fraction(10), comment="x" * 600) as file:
        file.write(moving(3))
    with Image.open(path) as picture:
        assert (picture.format, getattr(picture, "n_frames", 1)) == ("GIF", 3)
    assert bytes([90]) + b"x" * 90 + b"\0" in path.read_bytes()


@pytest.mark.parametrize(("length", "kept"), [(MOST_COMMENT_BYTES, True), (MOST_COMMENT_BYTES + 1, False)])
def test_a_comment_of_too_many_bytes_is_not_read(length: int, kept: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with Encoder(path, output_format("X264 (.mp4)", "low", "fast"), 64, 64, Fraction(25), comment="x" * length) as file:
        file.write(moving(1))
    with open_source(path) as source:
        assert source.tags().comment == ("x" * length if kept else "")


def test_the_form_of_the_streams(tmp_path: Path) -> None:
    with open_source(Clip("a.mp4", frames=2, pix_fmt="yuv444p").write(tmp_path)) as source:
        tags = source.tags()
    assert (tags.pixel_format, tags.sound_codec, tags.comment) == ("yuv444p", "", "")


@pytest.mark.parametrize(
    "header", [{}, {"pixel_format": 3, "sound_codec": ""}, {"pixel_format": "", "sound_codec": None}]
)
def test_tags_of_a_wrong_form_are_refused(header: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no texts"):
        checked_tags(header, np.zeros(0, np.uint8))
    with pytest.raises(ValueError, match="no texts"):
        checked_tags({"pixel_format": "", "sound_codec": ""}, None)
