"""A Matroska file with too many tags is refused before FFmpeg opens it, wherever and however they are stored."""

from collections.abc import Callable
from pathlib import Path

import pytest

from longtake.errors import UnsupportedVideo
from longtake.media.matroska import MOST_TAGS, check_tags
from longtake.media.source import open_source
from tests.media.clips import Clip

TAGS, TAG, SIMPLE_TAG = b"\x12\x54\xc3\x67", b"\x73\x73", b"\x67\xc8"
UNKNOWN_SIZE = b"\x01" + b"\xff" * 7


def element(name: bytes, content: bytes) -> bytes:
    return name + (1 << 56 | len(content)).to_bytes(8, "big") + content


def simple_tag(number: int, inside: bytes = b"") -> bytes:
    return element(SIMPLE_TAG, element(b"\x45\xa3", b"N%d" % number) + element(b"\x44\x87", b"v") + inside)


def one_each(count: int) -> bytes:
    return element(TAGS, b"".join(element(TAG, simple_tag(number)) for number in range(count)))


def nested(count: int) -> bytes:
    inside = b""
    for number in range(count):
        inside = simple_tag(number, inside)
    return element(TAGS, element(TAG, inside))


def of_unknown_size(count: int) -> bytes:
    return TAGS + UNKNOWN_SIZE + element(TAG, b"".join(map(simple_tag, range(count))))


def in_two_lists(count: int) -> bytes:
    return one_each(count // 2) + bytes(2 << 20) + one_each(count - count // 2)


@pytest.mark.parametrize("stored", [one_each, nested, of_unknown_size, in_two_lists])
def test_the_number_of_tags(tmp_path: Path, stored: Callable[[int], bytes]) -> None:
    path = tmp_path / "tags"
    path.write_bytes(b"head" + stored(MOST_TAGS))
    check_tags(path)
    path.write_bytes(b"head" + stored(MOST_TAGS + 1))
    with pytest.raises(UnsupportedVideo, match="more than 600 tags"):
        check_tags(path)


def test_other_elements_within_the_tags_count_too(tmp_path: Path) -> None:
    (tmp_path / "tags").write_bytes(element(TAGS, b"\xec\x80" * 100_000))
    with pytest.raises(UnsupportedVideo):
        check_tags(tmp_path / "tags")


def test_a_video_with_too_many_tags_is_refused(tmp_path: Path) -> None:
    path = Clip("clip.mkv", frames=4).write(tmp_path)
    content = path.read_bytes()
    cluster = content.index(b"\x1f\x43\xb6\x75")
    path.write_bytes(content[:cluster] + one_each(100_000) + content[cluster:])
    with pytest.raises(UnsupportedVideo, match="more than 600 tags"), open_source(path):
        pass
