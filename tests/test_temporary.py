"""Temporary folders, and the deletion of what killed processes left."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from longtake import clock
from longtake.settings import Settings
from longtake.system import boot_id
from longtake.temporary import sweep, temporary_folder

PROGRAM = """
import sys, time
from pathlib import Path
from longtake.settings import Settings
from longtake.temporary import temporary_folder
with temporary_folder(Settings(data_dir=Path(sys.argv[1]))) as folder:
    (folder / "half").write_bytes(bytes(1000))
    print(folder, flush=True)
    time.sleep(60)
"""


def old(folder: Path) -> Path:
    """Makes a folder with a file in it look as if it was left days ago, and returns it."""
    folder.mkdir(parents=True)
    (folder / "half").touch()
    for path in (folder / "half", folder):
        os.utime(path, (1, 1))
    return folder


def test_a_temporary_folder_is_private_and_ends_with_its_block(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    with temporary_folder(settings) as folder:
        assert folder.parent == tmp_path / "data" / "tmp"
        assert [path.stat().st_mode & 0o077 for path in (folder, folder.parent)] == [0, 0]
        (folder / "file").touch()
        with temporary_folder(settings):
            sweep(settings)
            assert (folder / "file").exists(), "its process is alive"
    assert not folder.exists()


@pytest.mark.skipif(boot_id() == "", reason="only Linux tells whether the process of a folder has ended")
def test_the_folder_of_a_killed_process_is_deleted_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().rstrip())
        sweep(Settings(data_dir=tmp_path))
        assert (left / "half").exists()
        process.kill()
        process.wait()
        assert (left / "half").exists()
        with temporary_folder(Settings(data_dir=tmp_path)):
            assert not left.exists()


def test_a_folder_of_another_machine_is_deleted_when_nothing_in_it_changes(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    place = tmp_path / "tmp"
    elsewhere, busy, odd = (
        old(place / "0123456789abcdef.1.2.xyz"),
        old(place / "0123456789abcdef.1.3.xyz"),
        old(place / "x"),
    )
    (busy / "half").write_bytes(b"more")
    sweep(settings)
    assert list(place.iterdir()) == [busy]
    sweep(settings, old_s=-1)
    assert list(place.iterdir()) == []
    assert not elsewhere.exists()
    assert not odd.exists()


def test_without_a_data_folder_the_system_s_folder_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "system"))
    (tmp_path / "system").mkdir()
    (tmp_path / "file").touch()
    with temporary_folder(Settings(data_dir=tmp_path / "file" / "data")) as folder:
        assert folder.parent == tmp_path / "system"


@pytest.mark.skipif(boot_id() == "", reason="only Linux tells whether the process of a folder has ended")
def test_the_folder_of_a_living_process_stays_whatever_the_clock_says(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    with temporary_folder(settings) as folder:
        (folder / "half").touch()
        for path in (folder / "half", folder):
            os.utime(path, (1, 1))
        sweep(settings, old_s=-1)
        assert (folder / "half").exists()


def test_nothing_is_deleted_by_its_age_while_the_clock_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(data_dir=tmp_path)
    left = old(tmp_path / "tmp" / "0123456789abcdef.1.2.xyz")
    monkeypatch.setattr(clock, "is_steady", lambda: False)
    sweep(settings)
    assert left.exists()
    monkeypatch.undo()
    sweep(settings)
    assert not left.exists()
