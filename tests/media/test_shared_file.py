"""Several readers of one open file."""

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from longtake.media.shared_file import SharedFile, size_of

DATA = bytes(range(256)) * 100


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(DATA)
    return tmp_path / "file"


@pytest.fixture
def shared(path: Path) -> Iterator[SharedFile]:
    with io.FileIO(path) as file:
        yield SharedFile(file)


def test_each_reader_has_its_own_position(shared: SharedFile) -> None:
    first, second = shared.open("rb"), shared.open("rb")
    second.seek(10_000)
    read = [(first.read(5000), second.read(5000)) for _ in range(3)]
    assert b"".join(one for one, _ in read) == DATA[:15_000]
    assert b"".join(two for _, two in read) == DATA[10_000:25_000]
    assert (first.tell(), second.tell()) == (15_000, 25_000)


def test_the_file_stays_open_when_a_reader_is_closed(shared: SharedFile) -> None:
    with shared.open("rb") as reader:
        assert reader.read() == DATA
        assert reader.read() == b""
    with shared.open("rb") as reader:
        assert reader.read() == DATA


def test_positions_count_from_the_start_the_position_or_the_end(shared: SharedFile) -> None:
    reader = shared.open("rb")
    assert reader.seek(-3, os.SEEK_END) == len(DATA) - 3
    assert reader.read(10) == DATA[-3:]
    assert reader.seek(-10, os.SEEK_CUR) == len(DATA) - 10
    assert reader.read() == DATA[-10:]
    with pytest.raises(ValueError, match="position -1 is before the start"):
        reader.seek(-1)


def test_the_size_of_a_path_and_of_an_open_file(path: Path, shared: SharedFile) -> None:
    assert size_of(path) == size_of(shared) == len(DATA)
