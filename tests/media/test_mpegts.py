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
    empty = b"\x47\x1f\xff\x10" + (b"\x47\x40\x00" * 62)[:184]
    path.write_bytes(path.read_bytes() + empty * 30_000)
    began = time.process_time()
    check_programs(path)
    took_s = time.process_time() - began
    with open_source(path, limits=Limits(open_cpu_s=took_s / 2)) as source:
        assert source.facts.num_frames == 4
