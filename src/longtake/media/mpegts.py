"""Counts the programs of an MPEG transport stream: FFmpeg's time to read the file grows with the fifth power of their
number.

Such a file consists of packets. A table in some of them, the PAT, lists the programs (ISO/IEC 13818-1, 2.4.4.3).
"""

import re
from collections.abc import Iterator
from typing import BinaryIO

from longtake.errors import UnsupportedVideo
from longtake.media.shared_file import Openable

MOST_PROGRAMS = 1000
"""The largest number of programs that all different program association tables (PATs) of a file may list together. A
broadcast has up to 50."""

_PACKET_BYTES = 188
_HEAD = re.compile(b"\x47[\x40\x60\xc0\xe0]\x00")
"""Matches the first bytes of a packet in which a program association table (PAT) begins."""

_PAT = 0
"""The `table_id` of a program association table (PAT), which lists the programs of a stream."""

_CHUNK_BYTES = 1 << 20


def check_programs(file: Openable) -> None:
    """Raises UnsupportedVideo if the tables of an MPEG transport stream list more than MOST_PROGRAMS programs.

    Equal tables count once, because a stream repeats its table several times a second.
    """
    tables: set[bytes] = set()
    num_programs = 0
    with file.open("rb") as opened:
        for packet in _packets(opened):
            content = _content(packet)
            if content in tables:
                continue
            tables.add(content)
            num_programs += sum(_numbers_of_programs(content))
            if num_programs > MOST_PROGRAMS:
                raise UnsupportedVideo(f"The file has more than {MOST_PROGRAMS} programs, the most that can be read.")


def _packets(opened: BinaryIO) -> Iterator[bytes]:
    """Yields each packet in which a program association table (PAT) begins.

    The whole file is searched, because FFmpeg finds packets at any place of a damaged file.
    """
    content = b""
    while chunk := opened.read(_CHUNK_BYTES):
        content += chunk
        for head in _HEAD.finditer(content):
            packet = content[head.start() : head.start() + _PACKET_BYTES]
            if len(packet) == _PACKET_BYTES:  # otherwise it is in the next content, too
                yield packet
        content = content[-_PACKET_BYTES + 1 :]


def _content(packet: bytes) -> bytes:
    """Returns what follows a packet's head, from the first table that begins in it; empty if there is none."""
    start = 4
    if packet[3] & 0x20:  # fields for the clock and the like come first
        start += 1 + packet[4]
    return packet[start + 1 + packet[start] :] if packet[3] & 0x10 and start < len(packet) else b""


def _numbers_of_programs(tables: bytes) -> Iterator[int]:
    """Yields, for each program association table (PAT) that begins in `tables`, the number of programs that it lists.

    tables: the content of a packet.
    """
    while len(tables) >= 3 and tables[0] == _PAT:
        size = int.from_bytes(tables[1:3], "big") & 0x0FFF
        yield max(0, size - 9) // 4
        tables = tables[3 + size :]
