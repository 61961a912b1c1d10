"""Atomic writes: the whole file or none of it."""

import errno
import os
import stat
import sys
from pathlib import Path

import pytest

from longtake.atomic import create, make_lasting_folder, replacing
from longtake.system import flush


def test_the_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "facts.json"
    with replacing(target) as temporary:
        temporary.write_text("new")
        assert temporary.parent == tmp_path
        assert not target.exists()
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "facts.json"
    target.write_text("old")

    def fail() -> None:
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise ValueError("full")

    with pytest.raises(ValueError, match="full"):
        fail()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    with replacing(tmp_path / "secret") as temporary:
        temporary.write_text("x")
    create(tmp_path / "key", b"x")
    for name in ("secret", "key"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


@pytest.mark.parametrize("has_links", [True, False])
def test_an_existing_file_is_not_created_again(
    has_links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if not has_links:
        monkeypatch.setattr(os, "link", refuse)
    target = tmp_path / "key"
    assert create(target, b"first")
    assert not create(target, b"second")
    assert target.read_bytes() == b"first"
    assert sys.platform == "win32" or stat.S_IMODE(target.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_can_be_flushed(tmp_path: Path) -> None:
    flush(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell which file a descriptor belongs to")
def test_new_folders_are_flushed_with_the_folders_above_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda fd: flushed.append(os.readlink(f"/proc/self/fd/{fd}")))
    make_lasting_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    assert flushed == [str(tmp_path), str(tmp_path / "a")]
    make_lasting_folder(tmp_path / "a" / "b")
    assert len(flushed) == 2
