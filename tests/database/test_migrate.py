"""Migrations: every database ends up with the tables of this version, or is refused."""

import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from longtake.database.connection import connect, file_url
from longtake.database.migrate import CURRENT, MIGRATIONS, migrate, open_database, version
from longtake.database.tables import deliveries, files, metadata, requests
from longtake.errors import InvalidRequest
from longtake.settings import Settings
from tests.database.fixtures import Postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database for one test only, because the tests here damage it."""
    if request.param == "sqlite":
        url = file_url(tmp_path / "queue.db")
    else:
        server: Postgres = request.getfixturevalue("postgres")
        url = server.create(f"t{uuid.uuid4().hex}")
    engine = connect(url)
    migrate(engine)
    engine.dispose()
    return url


def test_the_migrations_create_the_tables_of_this_version(engine: sa.Engine) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
        assert version(connection) == CURRENT


def test_the_migrations_create_unique_and_cascading_constraints(engine: sa.Engine) -> None:
    """The comparison above does not see these in SQLite."""
    found = sa.inspect(engine)
    unique = {constraint["name"] for constraint in found.get_unique_constraints("requests")}
    assert "one_request_per_idempotency_key" in unique
    (one_blob,) = found.get_unique_constraints("derived_files")
    assert one_blob["column_names"] == ["blob"]
    (of_file,) = found.get_foreign_keys("derived_files")
    assert (of_file["referred_table"], of_file["options"]["ondelete"]) == ("files", "CASCADE")
    for table in ("request_events", "webhook_deliveries"):
        (key,) = found.get_foreign_keys(table)
        assert (key["referred_table"], key["options"]["ondelete"]) == ("requests", "CASCADE")


def test_the_current_version_is_the_last_script() -> None:
    from alembic.script import ScriptDirectory

    assert ScriptDirectory(str(MIGRATIONS)).get_heads() == [CURRENT]


@contextmanager
def at_version_0_1(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Yields a connection to an empty database with the tables of version 0.1."""
    _drop_everything(engine)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        yield connection


def test_files_of_version_0_1_keep_their_bytes(engine: sa.Engine) -> None:
    with at_version_0_1(engine) as connection:
        connection.execute(
            sa.text("INSERT INTO files VALUES ('key.mp4', 'me', NULL, 'clip.mp4', 'video/mp4', 6, 1.5, NULL)")
        )
    migrate(engine)
    with engine.connect() as connection:
        (file,) = connection.execute(sa.select(files)).all()
    assert (file.key, file.blob, file.key_id, file.size, file.access) == ("key.mp4", "key.mp4", "me", 6, None)


def test_webhooks_of_version_0_1_get_their_key_and_host(engine: sa.Engine) -> None:
    with at_version_0_1(engine) as connection:
        connection.execute(
            sa.text(
                "INSERT INTO requests (id, endpoint, pool, state, priority, key_id, body, base_url, store_io,"
                " may_retry, created_at, attempt, version, price_usd) VALUES"
                " ('r', 'a/b', 'default', 'COMPLETED', 0, 'me', :body, '', :yes, :yes, 1.5, 1, 1, '0')"
            ),
            {"body": b"{}", "yes": True},
        )
        connection.execute(
            sa.text(
                "INSERT INTO webhook_deliveries (request_id, url, state, attempts, next_at, give_up_at)"
                " VALUES ('r', 'https://Example.com:8443/hook', 'waiting', 1, 1.5, 2.5)"
            )
        )
    migrate(engine)
    with engine.connect() as connection:
        (delivery,) = connection.execute(sa.select(deliveries)).all()
    assert (delivery.key_id, delivery.host) == ("me", "example.com")


def test_requests_of_version_0_1_are_found_by_their_prompt(engine: sa.Engine) -> None:
    bodies = (b'{"prompt": "A Cat\\u0000"}', b'{"prompt": 1}', b"null", b"[]", b'{"prompt": "' + b"x" * 3000 + b'"}')
    with at_version_0_1(engine) as connection:
        for number, body in enumerate(bodies):
            connection.execute(
                sa.text(
                    "INSERT INTO requests (id, endpoint, pool, state, priority, key_id, body, base_url, store_io,"
                    " may_retry, created_at, attempt, version, price_usd) VALUES"
                    " (:id, 'a/b', 'default', 'COMPLETED', 0, 'me', :body, '', :yes, :yes, 1.5, 1, 1, '0')"
                ),
                {"id": f"r{number}", "body": body, "yes": True},
            )
    migrate(engine)
    with engine.connect() as connection:
        texts = connection.scalars(sa.select(requests.c.search_text).order_by(requests.c.id)).all()
    assert texts == ["a cat", "", "", "", "x" * 2000]


def test_a_file_that_is_no_database_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "longtake.db").write_bytes(b"something else " * 1000)
    with pytest.raises(InvalidRequest, match=r"cannot be used: file is not a database\. Restore it from a backup, or"):
        open_database(Settings(data_dir=tmp_path))
    assert (tmp_path / "longtake.db").read_bytes() == b"something else " * 1000


def test_a_folder_in_place_of_the_database_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "longtake.db").mkdir()
    with pytest.raises(InvalidRequest, match=r"cannot be used: .*longtake\.db is a folder\."):
        open_database(Settings(data_dir=tmp_path))


def test_servers_that_start_at_the_same_time_migrate_once(engine: sa.Engine) -> None:
    _drop_everything(engine)
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


def test_a_failed_migration_changes_nothing(engine: sa.Engine) -> None:
    _drop_everything(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE webhook_deliveries (x INTEGER)"))  # the name of the last table
    with pytest.raises(sa.exc.DBAPIError, match="exists"):
        migrate(engine)
    assert sa.inspect(engine).get_table_names() == ["webhook_deliveries"]


def test_a_database_of_a_newer_version_is_refused(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(InvalidRequest, match="of version 9999"):
        migrate(engine)


def test_alembic_is_not_imported_if_the_tables_are_current(tmp_path: Path) -> None:
    url = file_url(tmp_path / "queue.db")
    migrate(connect(url))
    code = (
        "import sys; from longtake.database.connection import connect; from longtake.database.migrate import migrate;"
        f"migrate(connect({url!r})); sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def _drop_everything(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        metadata.drop_all(connection)
        connection.execute(sa.text("DROP TABLE alembic_version"))
