"""Counts the programs of an MPEG transport stream: FFmpeg's time to read the file grows with the fifth power of their
number.

Such a file consists of packets. Some of them contain tables of programs: the program association table (PAT; ISO/IEC
13818-1, 2.4.4) and the service description table (SDT; ETSI EN 300 468, 5.2.3), which has the programs' names. A table
that is too long for one packet continues in later ones.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO, NamedTuple

from longtake.errors import UnsupportedVideo
from longtake.media.shared_file import Openable
from longtake.media.sniff import TS_PACKETS

MOST_PROGRAMS = 1000
"""The largest number of programs that all different tables of a file may list together. A broadcast has up to 50."""

_PACKET_BYTES = 188
_HEAD = re.compile(
    b"\x47[\x00\x20\x40\x60\x80\xa0\xc0\xe0][\x00\x11][%b]" % re.escape(bytes(n for n in range(256) if n & 0x10))
)
"""Matches the head of a packet with a part of the PAT (its third byte is 0) or of the SDT (0x11)."""

_EMPTY_TABLES = re.compile(b"\\A(?:[^\xff][%b]\0)+" % bytes(range(0, 256, 16)), re.DOTALL)
"""Matches tables without content, such as the zeros with which some programs fill a packet."""

_LONGEST_TABLE = 4096
"""The size in bytes of the longest table that FFmpeg reads."""

_SPARE_PARTS = 2000
"""How many more parts of tables a file may have than two in each of its packets: a packet and the table that it
contains. Other bytes that only look like the head of a packet are among them."""

_CHUNK_BYTES = 1 << 20


def check_programs(file: Openable) -> None:
    """Raises UnsupportedVideo if the tables of an MPEG transport stream list more than MOST_PROGRAMS programs.

    Equal tables count once, because a stream repeats its table several times a second. A file with more tables, and
    more packets that contain them, than fit into its bytes is refused, too: in such a file they overlap, and reading
    them would take half an hour for a gigabyte.
    """
    tables = _Tables()
    with file.open("rb") as opened:
        for position, packet in _packets(opened):
            tables.add(position, packet)
            if tables.num_parts > 2 * position // _PACKET_BYTES + _SPARE_PARTS:
                raise UnsupportedVideo("The file's tables of programs overlap; the file is broken or hostile.")
            if tables.num_programs > MOST_PROGRAMS:
                raise UnsupportedVideo(f"The file has more than {MOST_PROGRAMS} programs, the most that can be read.")


def _packets(opened: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yields (position in the file, packet) for each packet that contains a part of a table of programs.

    The whole file is searched, because FFmpeg finds packets at any place of a damaged file.
    """
    content, start = b"", 0
    while chunk := opened.read(_CHUNK_BYTES):
        content += chunk
        for head in _HEAD.finditer(content):
            packet = content[head.start() : head.start() + _PACKET_BYTES]
            if len(packet) == _PACKET_BYTES:  # otherwise it is in the next content, too
                yield start + head.start(), packet
        start += max(0, len(content) - _PACKET_BYTES + 1)
        content = content[-_PACKET_BYTES + 1 :]


class _Unfinished(NamedTuple):
    """The beginning of a table: the bytes so far, and the position in the file of the packet with the last of them."""

    content: bytes
    position: int


_Place = tuple[int, int, int]
"""(kind of table, packet size, position of the packet in the file modulo the packet size).

The kind is the third byte of the packet: a key of _COUNTS. With the right packet size, all packets of one table have
the same place, because their positions differ by multiples of this size.
"""


def _places(kind: int, position: int) -> Iterator[_Place]:
    """Yields (kind, size, position % size) for each size that packets can have: 188, 192 and 204 bytes (TS_PACKETS).

    The size in this file is not known. Two packets that have one of these tuples in common may belong to one table.

    kind: the third byte of the packet, which tells the kind of table that it contains: a key of _COUNTS.
    position: the position of the packet's first byte in the file.
    """
    return ((kind, size, position % size) for size in TS_PACKETS)


class _Tables:
    """Collects the tables of programs from the packets of a file.

    num_programs: the sum of the numbers of programs in the tables so far. Equal tables count once.
    num_parts: the number of packets and of tables so far, which is proportional to the time that they took.
    """

    def __init__(self) -> None:
        self.num_programs = 0
        self.num_parts = 0
        self._finished: set[bytes] = set()
        self._unfinished: dict[_Place, _Unfinished] = {}
        self._newest: dict[int, _Unfinished] = {}

    def add(self, position: int, packet: bytes) -> None:
        """Reads one packet. `position` is its position in the file, which must be behind those of earlier packets."""
        self.num_parts += 1
        kind, payload = packet[2], _payload(packet)
        if not packet[1] & 0x40:  # no table begins at its first byte
            if payload and (content := self._continued(kind, position, by_place=False)):
                self._read(kind, content + payload, position)
        elif payload and payload[0] < len(payload):
            begin = 1 + payload[0]
            if content := self._continued(kind, position, by_place=True):
                self._read(kind, content + payload[1:begin])
            self._read(kind, payload[begin:], position)

    def _continued(self, kind: int, position: int, *, by_place: bool) -> bytes:
        """Finds the unfinished table that the packet at `position` continues, removes it, and returns its bytes so far.
        Returns no bytes if there is none.

        It is a table of the same kind whose last packet is a multiple of a possible packet size away.

        kind: the third byte of the packet, which tells the kind of table that it contains: a key of _COUNTS.
        by_place: False to take the newest unfinished table of this kind if there is no such table, because other bytes
            may be between packets.
        """
        placed = (table for place in _places(kind, position) if (table := self._unfinished.get(place)) is not None)
        found = next(placed, None if by_place else self._newest.get(kind))
        if found is None:
            return b""
        for place in _places(kind, found.position):
            if self._unfinished.get(place) is found:
                del self._unfinished[place]
        if self._newest.get(kind) is found:
            del self._newest[kind]
        return found.content

    def _read(self, kind: int, content: bytes, position: int | None = None) -> None:
        """Counts the programs of the tables in `content`. The first one begins at the first byte.

        kind: a key of _COUNTS.
        position: the position of the packet with the last byte, if later packets may continue the last table.
        """
        while (content := _EMPTY_TABLES.sub(b"", content)) and content[0] != 0xFF:  # it fills the rest of a packet
            size = 3 + (int.from_bytes(content[1:3], "big") & 0x0FFF) if len(content) >= 3 else 3
            if size > _LONGEST_TABLE:
                return
            if len(content) < size:
                if position is not None:
                    table = self._newest[kind] = _Unfinished(content, position)
                    self._unfinished.update(dict.fromkeys(_places(kind, position), table))
                return
            finished, content = content[:size], content[size:]
            self.num_parts += 1
            if finished not in self._finished and (num_programs := _COUNTS[kind](finished)):
                self._finished.add(finished)
                self.num_programs += num_programs


def _payload(packet: bytes) -> bytes:
    """Returns the bytes of a packet behind its head and behind the fields for the clock and the like."""
    return packet[5 + packet[4] :] if packet[3] & 0x20 else packet[4:]


def _programs_of_pat(table: bytes) -> int:
    return max(0, len(table) - 12) // 4 if table[0] == 0 else 0


def _programs_of_sdt(table: bytes) -> int:
    """Returns how many programs an SDT lists. Each has 5 bytes, the last two of which say how many more follow."""
    count, start = 0, 11
    while table[0] == 0x42 and start + 5 <= len(table) - 4:
        start += 5 + (int.from_bytes(table[start + 3 : start + 5], "big") & 0x0FFF)
        count += 1
    return count


_COUNTS: Mapping[int, Callable[[bytes], int]] = {0x00: _programs_of_pat, 0x11: _programs_of_sdt}
"""Third byte of a packet -> the function that returns how many programs a table in such packets lists."""
