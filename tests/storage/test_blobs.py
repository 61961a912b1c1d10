"""The places for bytes: what every implementation holds, and what the local folder does beyond it."""

import errno
import os
import random
import threading
import time
from pathlib import Path

import pytest

from longtake.settings import Settings
from longtake.storage import open_blobs
from longtake.storage.blobs import PIECE_BYTES, Blobs
from longtake.storage.local import SCRATCH, LocalBlobs
from tests.storage.fixtures import read


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_blob_is_read_as_it_was_stored(blobs: Blobs, tmp_path: Path) -> None:
    content = random.Random(0).randbytes(2 * PIECE_BYTES + 7)
    blobs.put("clip.mp4", written(tmp_path / "upload", content))
    assert blobs.size("clip.mp4") == len(content)
    pieces = list(blobs.open("clip.mp4"))
    assert b"".join(pieces) == content
    assert max(map(len, pieces)) <= PIECE_BYTES
    with blobs.local("clip.mp4") as path:
        assert path.read_bytes() == content


@pytest.mark.parametrize(("start", "stop"), [(0, 4), (3, None), (5, 5), (9, 10), (10, None), (0, 99)])
def test_a_range_is_read(blobs: Blobs, tmp_path: Path, start: int, stop: int | None) -> None:
    blobs.put("digits", written(tmp_path / "upload", b"0123456789"))
    assert b"".join(blobs.open("digits", start, stop)) == b"0123456789"[start:stop]


def test_a_range_of_several_pieces_is_read(blobs: Blobs, tmp_path: Path) -> None:
    content = random.Random(0).randbytes(3 * PIECE_BYTES)
    blobs.put("clip", written(tmp_path / "upload", content))
    assert b"".join(blobs.open("clip", 5, 2 * PIECE_BYTES + 9)) == content[5 : 2 * PIECE_BYTES + 9]


def test_a_missing_blob_has_no_size_and_cannot_be_opened(blobs: Blobs) -> None:
    assert blobs.size("nothing") is None
    with pytest.raises(FileNotFoundError):
        blobs.open("nothing")
    with pytest.raises(FileNotFoundError), blobs.local("nothing"):
        pass
    blobs.delete("nothing")
    assert list(blobs.list()) == []


def test_a_put_can_be_repeated(blobs: Blobs, tmp_path: Path) -> None:
    file = written(tmp_path / "upload", b"frames")
    blobs.put("clip", file)
    blobs.put("clip", file)
    assert read(blobs, "clip") == b"frames"
    blobs.put("clip", written(tmp_path / "other", b"others"))
    assert read(blobs, "clip") == b"others"


def test_a_deleted_blob_is_gone(blobs: Blobs, tmp_path: Path) -> None:
    blobs.put("parts/a.1", written(tmp_path / "upload", b"x"))
    blobs.delete("parts/a.1")
    assert blobs.size("parts/a.1") is None
    assert list(blobs.list()) == []


def test_blobs_are_listed_with_their_size_and_age(blobs: Blobs, tmp_path: Path) -> None:
    old = written(tmp_path / "upload", b"abc")
    os.utime(old, (1, 1))
    for key in ("clip.mp4", "other.mp4", "parts/a.1", "parts/a.2", "parts/b.1"):
        blobs.put(key, old)
    assert {blob.key for blob in blobs.list()} == {"clip.mp4", "other.mp4", "parts/a.1", "parts/a.2", "parts/b.1"}
    clip = next(blob for blob in blobs.list() if blob.key == "clip.mp4")
    assert clip.size == 3
    assert abs(clip.modified_at - time.time()) < 3600, "a blob is as old as its key, not as the file it came from"


@pytest.mark.parametrize(
    "key", ["", ".", "..", "../secret", ".hidden", "a/.b", "/etc/passwd", "a/b/c", "a/", "ä", "a b"]
)
def test_what_is_no_key_raises_value_error(blobs: Blobs, tmp_path: Path, key: str) -> None:
    file = written(tmp_path / "upload", b"x")
    for use in (
        lambda: blobs.put(key, file),
        lambda: blobs.open(key),
        lambda: blobs.size(key),
        lambda: blobs.delete(key),
    ):
        with pytest.raises(ValueError, match="not the key of a blob"):
            use()


def test_a_reader_sees_a_whole_blob_while_it_is_replaced(blobs: Blobs, tmp_path: Path) -> None:
    versions = [bytes([number]) * 500_000 for number in (1, 2)]
    files = [written(tmp_path / str(number), content) for number, content in enumerate(versions)]
    blobs.put("clip", files[0])
    done = threading.Event()

    def replace() -> None:
        for number in range(10):
            blobs.put("clip", files[number % 2])
        done.set()

    thread = threading.Thread(target=replace)
    thread.start()
    while not done.is_set():
        assert read(blobs, "clip") in versions
    thread.join()


def test_the_settings_name_a_folder(tmp_path: Path) -> None:
    assert open_blobs(Settings(data_dir=tmp_path)) == LocalBlobs(tmp_path / "files")


def test_the_local_folder_takes_a_file_without_copying_it(tmp_path: Path) -> None:
    blobs, file = LocalBlobs(tmp_path / "files"), written(tmp_path / "upload", b"x")
    blobs.put("clip", file)
    blobs.put("clip", file)
    with blobs.local("clip") as path:
        assert path.stat().st_ino == file.stat().st_ino
    assert list((tmp_path / "files" / SCRATCH).iterdir()) == []


def test_the_local_folder_copies_from_another_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    blobs = LocalBlobs(tmp_path / "files")
    blobs.put("clip", written(tmp_path / "upload", b"x" * 1000))
    assert read(blobs, "clip") == b"x" * 1000
    assert list((tmp_path / "files" / SCRATCH).iterdir()) == []
