import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest
import sqlalchemy as sa

from longtake.database.connection import connect, file_url
from longtake.database.migrate import CURRENT, MIGRATIONS, migrate, version
from longtake.database.tables import metadata
from longtake.errors import InvalidRequest
from tests.database.fixtures import Postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of its own for each test, for they leave it in disorder."""
    if request.param == "sqlite":
        url = file_url(tmp_path / "queue.db")
    else:
        server: Postgres = request.getfixturevalue("postgres")
        url = server.create(f"t{uuid.uuid4().hex}")
    engine = connect(url)
    migrate(engine)
    engine.dispose()
    return url


def test_the_migrations_make_the_tables_of_this_version(engine: sa.Engine) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
        assert version(connection) == CURRENT


def test_uniqueness_and_cascades_are_there_too(engine: sa.Engine) -> None:
    """What the comparison of above does not tell for SQLite."""
    found = sa.inspect(engine)
    unique = {constraint["name"] for constraint in found.get_unique_constraints("requests")}
    assert "one_request_per_idempotency_key" in unique
    for table in ("request_events", "webhook_deliveries"):
        (key,) = found.get_foreign_keys(table)
        assert (key["referred_table"], key["options"]["ondelete"]) == ("requests", "CASCADE")


def test_the_current_version_is_the_last_script() -> None:
    from alembic.script import ScriptDirectory

    assert ScriptDirectory(str(MIGRATIONS)).get_heads() == [CURRENT]


def test_several_servers_that_start_at_once_migrate_once(engine: sa.Engine) -> None:
    _forget_everything(engine)
    failures: list[BaseException] = []

    def start() -> None:
        try:
            migrate(connect(engine.url.render_as_string(hide_password=False)))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with engine.connect() as connection:
        assert version(connection) == CURRENT


def test_a_migration_that_fails_leaves_nothing(engine: sa.Engine) -> None:
    _forget_everything(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE webhook_deliveries (x INTEGER)"))  # in the way of the last table
    with pytest.raises(sa.exc.DBAPIError, match="exists"):
        migrate(engine)
    assert sa.inspect(engine).get_table_names() == ["webhook_deliveries"]


def test_a_database_of_a_newer_version_is_refused(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(InvalidRequest, match="of version 9999"):
        migrate(engine)


def test_nothing_is_imported_where_the_tables_are_current(tmp_path: Path) -> None:
    url = file_url(tmp_path / "queue.db")
    migrate(connect(url))
    code = (
        "import sys; from longtake.database.connection import connect; from longtake.database.migrate import migrate;"
        f"migrate(connect({url!r})); sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def _forget_everything(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        metadata.drop_all(connection)
        connection.execute(sa.text("DROP TABLE alembic_version"))
