"""Counts the tags of a Matroska or WebM file: FFmpeg's time to open the file grows with the cube of their number.

Such a file consists of elements, each with an id, a size and its content, which can be other elements (RFC 8794).
"""

from collections.abc import Iterator
from typing import BinaryIO

from longtake.errors import UnsupportedVideo
from longtake.media.shared_file import Openable

MOST_TAGS = 600
"""The largest number of tags that a file may have. Programs write up to ten for each track."""

_TAGS, _TAG, _SIMPLE_TAG = b"\x12\x54\xc3\x67", b"\x73\x73", b"\x67\xc8"
"""The ids of the elements with tags: the list of all tags, a group of tags, and one tag. A tag can contain tags."""

_MOST_ELEMENTS = 20 * MOST_TAGS
"""The largest number of elements that the lists of tags may contain in all. A usual tag contains four elements."""

_CHUNK_BYTES = 1 << 20
_LONGEST_HEAD = 12
"""The largest number of bytes of an element's id and size together."""


def check_tags(file: Openable) -> None:
    """Raises UnsupportedVideo if a Matroska or WebM file has more than MOST_TAGS tags."""
    with file.open("rb") as opened:
        size = opened.seek(0, 2)
        num_tags = num_elements = 0
        for start in _places(opened, _TAGS):
            for is_tag in _elements(opened, start, size):
                num_elements += 1
                num_tags += is_tag
                if num_tags > MOST_TAGS or num_elements > _MOST_ELEMENTS:
                    raise UnsupportedVideo(
                        f"The file has more than {MOST_TAGS} tags (texts about the video), the most that can be read."
                    )


def _places(opened: BinaryIO, wanted: bytes) -> Iterator[int]:
    """Yields each position at which the file contains the bytes `wanted`.

    The whole file is searched, because FFmpeg does the same if the file is damaged.
    """
    start, kept = 0, b""
    while True:
        opened.seek(start + len(kept))
        chunk = opened.read(_CHUNK_BYTES)
        if not chunk:
            return
        content = kept + chunk
        found = content.find(wanted)
        while found >= 0:
            yield start + found
            found = content.find(wanted, found + 1)
        kept = content[-len(wanted) + 1 :]
        start += len(content) - len(kept)


def _elements(opened: BinaryIO, start: int, end: int) -> Iterator[bool]:
    """Yields for each element in a list of tags: True if the element is a tag, False if not. Ends at malformed content.

    start: position in the file at which the list begins.
    end: the size of the file in bytes.
    """
    position, ends = start, [end]
    while ends:
        if position >= ends[-1]:
            ends.pop()
            continue
        opened.seek(position)
        head = opened.read(_LONGEST_HEAD)
        id_length = _length(head[:1])
        size_length = _length(head[id_length : id_length + 1])
        name, number = head[:id_length], head[id_length : id_length + size_length]
        if not 0 < id_length <= 4 or not 0 < size_length == len(number):
            return
        content = position + id_length + size_length
        mask = (1 << 7 * size_length) - 1
        size = int.from_bytes(number, "big") & mask
        # All bits set mean that the size is unknown.
        after = ends[-1] if size == mask else min(content + size, ends[-1])
        if position == start:
            ends = [after]
        elif name in (_TAGS, _TAG, _SIMPLE_TAG):
            ends.append(after)
        else:
            content = after
        yield name == _SIMPLE_TAG
        position = content


def _length(first: bytes) -> int:
    """Returns the length in bytes of a number (an id or a size) that begins with the byte `first`.

    Returns 0 if no number begins with this byte, or if `first` is empty.
    """
    return 9 - first[0].bit_length() if first and first[0] else 0
