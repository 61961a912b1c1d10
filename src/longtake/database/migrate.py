"""Opens the database and migrates its tables to this version of longtake."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from longtake.database.connection import connect, database_file, error_code, file_url, is_damaged, reading
from longtake.database.space import let_shrink
from longtake.errors import InvalidRequest
from longtake.private import prepare_data_folder, prepare_database_file
from longtake.settings import Settings

DATABASE = "longtake.db"
"""The name of the SQLite file in `settings.data_dir`. It is used if `settings.database_url` is None."""

CURRENT = "0019"
"""The revision of the newest script in `migrations/versions`."""

MIGRATIONS = Path(__file__).with_name("migrations")
"""The folder of Alembic's environment and scripts."""
LACKING = {sqlite3.SQLITE_ERROR, "42P01", "42703"}
"""Error codes of SQLite and PostgreSQL for a table or column that is missing."""
LOCK = 0x6C6F6E6774616B65
"""The number of the PostgreSQL advisory lock that a migration holds. It is the ASCII text `longtake` as a number."""


def open_database(settings: Settings) -> sa.Engine:
    """Returns the engine of the database that the settings name. Its tables are migrated to this version.

    The default SQLite file and its folder are created if they do not exist. Only their owner can open them. Raises
    InvalidRequest if the database cannot be used or was migrated by a newer version.
    """
    if settings.database_url is None:
        prepare_data_folder(settings)
    engine = connect(settings.database_url or file_url(settings.data_dir / DATABASE))
    file = database_file(engine)
    if file is not None:
        if file.is_dir():
            raise InvalidRequest(f"The database {engine.url!r} cannot be used: {file} is a folder.")
        prepare_database_file(file)
    with database_errors(engine):
        migrate(engine)
    return engine


@contextmanager
def database_errors(engine: sa.Engine) -> Iterator[None]:
    """A context manager: turns a database error that its block raises into InvalidRequest, with a sentence for the
    operator."""
    try:
        yield
    except sa.exc.DatabaseError as error:
        reason = str(error.orig).partition("\n")[0]
        is_hopeless = is_damaged(error) or error_code(error) in LACKING
        remedy = " Restore it from a backup, or move it away to begin with an empty one." if is_hopeless else ""
        raise InvalidRequest(f"The database {engine.url!r} cannot be used: {reason}.{remedy}") from None


def migrate(engine: sa.Engine) -> None:
    """Creates the tables, or alters them to this version, in one transaction. Does nothing if they are current.

    Other servers that start at the same time wait for it. Raises InvalidRequest if the tables are of a newer version of
    longtake.
    """
    with reading(engine) as connection:
        if version(connection) == CURRENT:
            return
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
        found = version(connection)
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if found is not None and found not in known:
            raise InvalidRequest(
                f"The database is of version {found}, this longtake knows {CURRENT}; a newer longtake can use it."
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    let_shrink(engine)


def version(connection: sa.Connection) -> str | None:
    """Returns the revision of the tables, such as "0002". Returns None if there are no tables."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    return found
