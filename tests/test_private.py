"""The data folder and the database: out of other users' reach from the first byte, also where they existed before."""

import logging
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from longtake.database.migrate import open_database
from longtake.private import new_files_private, prepare_data_folder, prepare_database_file
from longtake.settings import settings
from longtake.system import close_to_others
from tests.service.test_server import serving

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no permissions of this kind")


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    """Lets other users read new files, as on most systems."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_data_folder_and_its_database_are_private(tmp_path: Path) -> None:
    chosen = settings(data_dir=tmp_path / "new" / "data")
    engine = open_database(chosen)
    assert permissions(chosen.data_dir) == 0o700
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE numbers (one INTEGER)"))
        files = sorted(chosen.data_dir.iterdir())
    assert [path.name for path in files] == ["longtake.db", "longtake.db-shm", "longtake.db-wal"]
    assert [permissions(path) for path in files] == [0o600] * 3
    engine.dispose()


def test_a_data_folder_that_others_could_read_becomes_private_with_all_that_is_in_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "data"
    (folder / "files" / "parts").mkdir(parents=True)
    (folder / "longtake.db").touch()
    engine = open_database(settings(data_dir=folder))
    assert permissions(folder) == permissions(folder / "files") == 0o700
    assert permissions(folder / "longtake.db") == 0o600
    assert f"could reach the data folder {folder}. Now its owner alone can." in caplog.text
    engine.dispose()


def test_a_database_elsewhere_becomes_private_and_its_folder_stays_as_it_is(tmp_path: Path) -> None:
    place = tmp_path / "shared"
    place.mkdir()
    paths = [place / f"own.db{suffix}" for suffix in ("", "-shm", "-wal")]
    with sqlite3.connect(paths[0]) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE numbers (one INTEGER)")
        assert [permissions(path) for path in paths] == [0o644] * 3
        prepare_database_file(paths[0])
        assert [permissions(path) for path in paths] == [0o600] * 3
    connection.close()
    assert permissions(place) == 0o755


def test_a_folder_of_all_users_stays_as_it_is_and_a_sentence_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(0o1777)
    (tmp_path / "files").mkdir()
    prepare_data_folder(settings(data_dir=tmp_path))
    assert permissions(tmp_path) == 0o1777
    assert permissions(tmp_path / "files") == 0o700
    [line] = caplog.messages
    assert line.startswith(f"Other users of this machine can reach {tmp_path}, and its permissions cannot be changed")
    assert "LONGTAKE_DATA_DIR" in line
    tmp_path.chmod(0o700)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root can give a file to another user")
def test_the_link_of_another_user_is_not_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    elsewhere, link = tmp_path / "elsewhere", tmp_path / "link"
    elsewhere.mkdir()
    link.symlink_to(elsewhere)
    os.lchown(link, 65534, 65534)
    assert not close_to_others(link)
    assert permissions(elsewhere) == 0o755
    os.lchown(link, 0, 0)
    assert close_to_others(link)
    assert permissions(elsewhere) == 0o700


def test_a_database_that_cannot_be_created_is_left_to_sqlite(tmp_path: Path) -> None:
    prepare_database_file(tmp_path / "missing" / "a.db")
    assert list(tmp_path.iterdir()) == []


def test_a_private_folder_is_not_mentioned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    tmp_path.chmod(0o700)
    prepare_data_folder(settings(data_dir=tmp_path))
    assert caplog.messages == []


def test_what_a_server_stores_is_private_from_its_start(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    with serving(folder, "--slots", "none") as server:
        server.upload()
        made = list(folder.rglob("*"))
        assert {path.relative_to(folder).parts[0] for path in made} >= {"files", "longtake.db", "webhook_keys"}
        assert [path for path in (folder, *made) if permissions(path) & 0o077] == []


def test_new_files_are_private_in_the_block_alone(tmp_path: Path) -> None:
    with new_files_private():
        (tmp_path / "inside").touch()
    (tmp_path / "after").touch()
    assert permissions(tmp_path / "inside") == 0o600
    assert permissions(tmp_path / "after") == 0o644
