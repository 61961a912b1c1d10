"""Databases for the tests: a SQLite file, and a database of a real PostgreSQL server."""

import getpass
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from longtake.database.connection import connect, file_url
from longtake.database.migrate import migrate
from longtake.database.tables import metadata

PLACES = ("/usr/lib/postgresql", "/usr/pgsql", "/opt/homebrew/opt", "/usr/local/opt")


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL server of the tests, reached through a socket in its folder. `bin` is the folder of its programs."""

    folder: Path
    bin: Path

    def url(self, name: str) -> str:
        return f"postgresql://{account()}@/{name}?host={self.folder}"

    def control(self, *words: str) -> None:
        options = f"-k {self.folder} -c listen_addresses= -c fsync=off -c max_connections=200"
        log = ("-l", self.folder / "log")
        subprocess.run(
            [*as_account(), self.bin / "pg_ctl", "-w", "-s", "-D", self.folder / "data", *log, "-o", options, *words],
            check=True,
            timeout=60,
            cwd="/",
            stdout=subprocess.DEVNULL,
        )

    def create(self, name: str, template: str = "template1") -> str:
        engine = sa.create_engine(
            sa.make_url(self.url("postgres")).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
        )
        with engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        engine.dispose()
        return self.url(name)

    def empty(self, name: str) -> None:
        """Deletes all rows, which is much faster than creating a new database."""
        tables = ", ".join(metadata.tables)
        with psycopg.connect(self.url(name), autocommit=True) as connection:
            connection.execute(f"SET lock_timeout = 10000; TRUNCATE {tables} RESTART IDENTITY CASCADE")


def account() -> str:
    """The account that PostgreSQL runs as, which must not be root."""
    return "postgres" if os.geteuid() == 0 else getpass.getuser()


def as_account() -> list[str]:
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--reuid", account(), "--regid", account(), "--clear-groups"]


def find_postgres() -> Path | None:
    """The folder of initdb and pg_ctl; None if they are not installed."""
    named = shutil.which("initdb")
    if named is not None:
        return Path(named).parent
    found = sorted(path.parent for place in PLACES for path in Path("/").glob(f"{place[1:]}*/**/bin/initdb"))
    return found[-1] if found else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL server for the whole test run."""
    where = find_postgres()
    if where is None:
        pytest.skip("PostgreSQL (initdb, pg_ctl) is not on this machine")
    if os.geteuid() == 0 and subprocess.run([*as_account(), "true"], capture_output=True).returncode:
        pytest.skip("PostgreSQL does not run as root, and there is no other account to run it as")
    folder = Path(tempfile.mkdtemp(prefix="longtake-pg-"))
    if os.geteuid() == 0:
        shutil.chown(folder, account(), account())
    server = Postgres(folder, where)
    subprocess.run(
        [*as_account(), where / "initdb", "-D", folder / "data", "-A", "trust", "-U", account(), "-N", "-E", "UTF8"],
        check=True,
        timeout=60,
        cwd="/",
        stdout=subprocess.DEVNULL,
    )
    try:
        server.control("start")
        engine = connect(server.create("migrated"))
        migrate(engine)
        engine.dispose()
        server.create("emptied", "migrated")
        yield server
    finally:
        server.control("-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "migrated.db"
    engine = connect(file_url(path))
    migrate(engine)
    engine.dispose()
    return path


on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For tests of what does not depend on the kind of database."""


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database with all tables: one after the other of both kinds."""
    if request.param == "sqlite":
        shutil.copyfile(request.getfixturevalue("migrated_file"), tmp_path / "queue.db")
        return file_url(tmp_path / "queue.db")
    server: Postgres = request.getfixturevalue("postgres")
    server.empty("emptied")
    return server.url("emptied")


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    """The engine of `database_url`."""
    made = connect(database_url)
    yield made
    made.dispose()
