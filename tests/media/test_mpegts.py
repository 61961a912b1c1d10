"""The number of programs of an MPEG transport stream is bounded."""

import time
from pathlib import Path

import pytest

from longtake.errors import UnsupportedVideo
from longtake.media.limits import Limits
from longtake.media.mpegts import MOST_PROGRAMS, check_programs
from longtake.media.source import open_source
from tests.media.clips import Clip

IN_ONE_PACKET = 40


def table(version: int, number: int, fields: bytes = b"") -> bytes:
    """Returns a packet with a table of 40 programs, whose numbers begin at `number`.

    fields: what precedes the table, for the clock and the like.
    """
    programs = b"".join((number + n).to_bytes(2, "big") + b"\xe0\x40" for n in range(IN_ONE_PACKET))
    size = 5 + len(programs) + 4
    body = bytes((0, 0xB0 | size >> 8, size & 0xFF, 0, 1, 0xC1 | version % 32 << 1, 0, 0)) + programs + bytes(4)
    flags = 0x30 if fields else 0x10
    length = bytes((len(fields),)) if fields else b""
    return (b"\x47\x40\x00" + bytes((flags,)) + length + fields + b"\0" + body).ljust(188, b"\xff")


def tables(count: int, fields: bytes = b"") -> bytes:
    return b"".join(table(n, n * IN_ONE_PACKET, fields) for n in range(count))


@pytest.mark.parametrize("fields", [b"", b"\0", b"\x10" + bytes(6)])
@pytest.mark.parametrize("before", [b"", b"junk", bytes((1 << 20) - 90)])
def test_the_number_of_programs(tmp_path: Path, fields: bytes, before: bytes) -> None:
    path, most = tmp_path / "a.ts", MOST_PROGRAMS // IN_ONE_PACKET
    path.write_bytes(before + tables(most, fields) + table(0, 0, fields) * 100)
    check_programs(path)
    path.write_bytes(before + tables(most + 1, fields))
    with pytest.raises(UnsupportedVideo, match="more than 1000 programs"):
        check_programs(path)


def section(kind: int, *programs: bytes, version: int = 0, extra: int = 0) -> bytes:
    """Returns a table of the number `kind`, with `extra` bytes after the fields that each such table begins with."""
    content = bytes((0, 1, 0xC1 | version % 32 << 1, 0, 0)) + bytes(extra) + b"".join(programs) + bytes(4)
    return bytes((kind, 0xB0 | len(content) >> 8, len(content) & 0xFF)) + content


def pat(count: int, first: int = 0, version: int = 0) -> bytes:
    return section(0, *((first + n).to_bytes(2, "big") + b"\xe0\x40" for n in range(count)), version=version)


def sdt(count: int, first: int = 0) -> bytes:
    name = b"\x48\x04\x01\x00\x01n"
    return section(0x42, *((first + n).to_bytes(2, "big") + b"\xfc\x80\x06" + name for n in range(count)), extra=3)


def packets(content: bytes, pid: int = 0, between: bytes = b"") -> bytes:
    """Returns the packets of one or several tables, of which only the first begins with a packet."""
    pieces = [b"\0" + content[:183], *(content[at : at + 184] for at in range(183, len(content), 184))]
    heads = [bytes((0x47, 0x40 if n == 0 else 0, pid, 0x10 | n % 16)) for n in range(len(pieces))]
    return b"".join(head + piece.ljust(184, b"\xff") + between for head, piece in zip(heads, pieces, strict=True))


OTHER = b"\x47\x01\x00\x10" + bytes(184)
"""A packet that belongs to no table."""


@pytest.mark.parametrize("between", [b"", OTHER, OTHER * 300, b"junk", OTHER + b"junk"])
def test_tables_that_continue_in_later_packets_count(tmp_path: Path, between: bytes) -> None:
    path = tmp_path / "a.ts"
    path.write_bytes(packets(pat(1000), between=between) * 3)
    check_programs(path)
    # The first packets are equal, so only the later ones show that the tables differ.
    path.write_bytes(b"".join(packets(pat(500)[:-50] + bytes((n,)) * 50, between=between) for n in range(3)))
    with pytest.raises(UnsupportedVideo, match="more than 1000 programs"):
        check_programs(path)


def test_tables_that_begin_in_the_middle_of_a_packet_count(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    path.write_bytes(packets(pat(60) + pat(900, 60)))
    check_programs(path)
    path.write_bytes(packets(pat(60) + pat(900, 60) + pat(60, 960)))
    with pytest.raises(UnsupportedVideo, match="more than 1000 programs"):
        check_programs(path)
    # The first bytes of a packet end the table before, and the next table begins behind them.
    first, rest = packets(pat(60))[:188], pat(60)[183:]
    more = [pat(42, 60 + 42 * n, n) for n in range(23)]
    path.write_bytes(first + b"\x47\x40\x00\x11" + bytes((len(rest),)) + rest.ljust(183, b"\xff"))
    check_programs(path)
    path.write_bytes(path.read_bytes() + b"".join(map(packets, more)))
    with pytest.raises(UnsupportedVideo, match="more than 1000 programs"):
        check_programs(path)


def test_programs_that_only_have_names_count(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(packets(sdt(200, 200 * n), 0x11) for n in range(5)) * 2)
    check_programs(path)
    path.write_bytes(path.read_bytes() + packets(pat(1)))
    with pytest.raises(UnsupportedVideo, match="more than 1000 programs"):
        check_programs(path)


MEBIBYTE = 1 << 20
CHECK_S_PER_MEBIBYTE = 0.5
"""Measured: below 0.1 s for the slowest file. Before the bound, 1 to 2 s."""


@pytest.mark.parametrize(
    "content",
    [
        b"\x47\x40\x00\x10",
        b"\x47\x40\x11\x10",
        b"\x47\x00\x00\x10",
        b"\x47\x40\x00\x30",
        b"\x47\x40\x00\x10\x00\x00\xb5\x00",
        OTHER + b"\x47\x40\x00\x10" * 47,
        b"\x47\x40\x00\x10\0" + b"\x01\0\x01." * 45,
    ],
    ids=[
        "heads",
        "heads of names",
        "continuations",
        "heads with fields",
        "beginnings",
        "half of the file",
        "short tables",
    ],
)
def test_tables_that_overlap_are_refused_at_once(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.ts"
    path.write_bytes(content * (MEBIBYTE // len(content)))
    began = time.process_time()
    with pytest.raises(UnsupportedVideo, match="tables of programs overlap"):
        check_programs(path)
    assert time.process_time() - began < CHECK_S_PER_MEBIBYTE


@pytest.mark.parametrize(
    "packet",
    [
        b"\x47\x40\x00\x10".ljust(94, b"\xff"),
        b"\x47\x40\x00\x10\x00\x00\xb5\x00".ljust(94, b"\xff"),
        b"\x47\x40\x00\x10\0" + b"\x01\0\0" * 61,
        packets(section(0)).rstrip(b"\xff").ljust(188, b"\0"),
        packets(pat(200)),
    ],
    ids=["two heads", "two beginnings", "empty tables", "a table and zeros", "nothing but a long table"],
)
def test_the_densest_tables_that_are_read_take_a_time_in_proportion_to_the_file(tmp_path: Path, packet: bytes) -> None:
    path = tmp_path / "a.ts"
    path.write_bytes(packet * (MEBIBYTE // len(packet)))
    began = time.process_time()
    check_programs(path)
    assert time.process_time() - began < CHECK_S_PER_MEBIBYTE


def test_malformed_tables_count_nothing_and_end(tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_bytes(b"".join((b"\x47\x40\x00" + bytes((n,)) * 185) for n in range(256)))
    check_programs(tmp_path / "a.ts")


def test_a_video_with_too_many_programs_is_refused_at_once(tmp_path: Path) -> None:
    path = Clip("clip.ts", frames=4).write(tmp_path)
    with open_source(path) as source:
        assert source.facts.num_frames == 4
    path.write_bytes(path.read_bytes() + tables(500))
    started = time.monotonic()
    with pytest.raises(UnsupportedVideo, match="more than 1000 programs"), open_source(path):
        pass
    assert time.monotonic() - started < 60


def test_the_search_for_programs_does_not_count_as_opening(tmp_path: Path) -> None:
    """The search takes longer, the larger the file is. Opening it does not."""
    path = Clip("clip.ts", frames=4).write(tmp_path)
    path.write_bytes(path.read_bytes() + packets(pat(1)) * 50_000)
    began = time.process_time()
    check_programs(path)
    took_s = time.process_time() - began
    with open_source(path, limits=Limits(open_cpu_s=took_s / 2)) as source:
        assert source.facts.num_frames == 4
