"""API keys: which are valid, what is stored of them, and how long they are cached."""

import threading

import pytest
import sqlalchemy as sa

from longtake.access import keys as module
from longtake.access.keys import Caller, Keys
from longtake.database.tables import api_keys
from longtake.errors import InvalidRequest
from tests.database.fixtures import on_sqlite


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1_700_000_000 + self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def queries(engine: sa.Engine) -> list[str]:
    """The statements about keys that the database is sent from now on."""
    seen: list[str] = []

    def record(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if "api_keys" in statement:
            seen.append(statement)

    sa.event.listen(engine, "before_cursor_execute", record)
    return seen


def test_a_key_is_valid_with_its_own_secret_only(engine: sa.Engine) -> None:
    keys = Keys(engine)
    first, second = keys.create("laptop", "run", 3), keys.create("boss", "admin")
    key_id, secret = first.split(":")
    assert keys.verify(first) == Caller(key_id, "run", 3)
    assert keys.verify(f" {second}\n") == Caller(second.split(":")[0], "admin", None)
    assert len(secret) == 64
    stolen = f"{second.split(':')[0]}:{secret}"
    partial = ("", ":", key_id, f"{key_id}:", f":{secret}", secret, f"{key_id}:{secret[:-1]}", f"{first}:")
    for wrong in (*partial, stolen, f"{key_id}:\udcff", "a" * 10_000, f"{key_id}:" + "a" * 10_000):
        assert keys.verify(wrong) is None


def test_the_database_does_not_have_the_secret(engine: sa.Engine) -> None:
    secret = Keys(engine).create("laptop", "run").split(":")[1]
    with engine.connect() as connection:
        stored = repr(connection.execute(sa.select(api_keys)).all())
    assert "laptop" in stored
    assert secret not in stored


def test_a_polling_client_causes_one_query_in_five_seconds(engine: sa.Engine, clock: Clock, queries: list[str]) -> None:
    keys = Keys(engine)
    key = keys.create("laptop", "run")
    queries.clear()
    for _ in range(45):
        assert keys.verify(key) is not None
        assert keys.verify(key + "x") is None
        clock.now += 0.1
    assert len(queries) == 1


def test_a_key_revoked_by_another_server_works_until_the_cache_expires(engine: sa.Engine, clock: Clock) -> None:
    here, elsewhere = Keys(engine), Keys(engine)
    key = here.create("laptop", "run")
    key_id = key.split(":")[0]
    assert here.verify(key)
    assert elsewhere.revoke(key_id)
    clock.now += module.CACHE_S
    assert here.verify(key)
    clock.now += 0.1
    assert here.verify(key) is None
    assert not here.revoke(key_id)
    assert not here.revoke("unknown")


def test_a_key_revoked_by_the_same_server_ends_at_once(engine: sa.Engine) -> None:
    keys = Keys(engine)
    key = keys.create("laptop", "run")
    assert keys.verify(key)
    keys.revoke(key.split(":")[0])
    assert keys.verify(key) is None


def test_a_server_whose_last_key_is_revoked_still_needs_one(engine: sa.Engine, clock: Clock) -> None:
    keys = Keys(engine)
    assert not keys.any_exist()
    key = Keys(engine).create("laptop", "run")
    assert not keys.any_exist()
    clock.now += module.CACHE_S + 0.1
    assert keys.any_exist()
    keys.revoke(key.split(":")[0])
    assert keys.any_exist()
    assert Keys(engine).any_exist()


def test_that_no_key_exists_is_cached_too(engine: sa.Engine, clock: Clock, queries: list[str]) -> None:
    keys = Keys(engine)
    for _ in range(45):
        keys.any_exist()
        clock.now += 0.1
    assert len(queries) == 1


@on_sqlite
def test_cached_keys_work_for_a_minute_without_the_database(engine: sa.Engine, clock: Clock) -> None:
    keys = Keys(engine)
    key, other = keys.create("laptop", "run"), keys.create("phone", "run")
    assert keys.verify(key)
    with engine.begin() as connection:
        connection.execute(sa.schema.DropTable(api_keys))
    clock.now += module.UNREACHABLE_S - 1
    assert keys.verify(key)
    with pytest.raises(sa.exc.DBAPIError):
        keys.verify(other)
    clock.now += 2
    with pytest.raises(sa.exc.DBAPIError):
        keys.verify(key)


def test_the_cache_is_bounded(engine: sa.Engine, queries: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CACHED", 3)
    keys = Keys(engine)
    created = [keys.create(str(number), "run") for number in range(4)]
    queries.clear()
    assert all(keys.verify(key) for key in created)
    assert len(queries) == 4
    assert all(keys.verify(key) for key in created[1:])
    assert len(queries) == 4
    assert keys.verify(created[0])
    assert len(queries) == 5, "it was dropped for the fourth"


def test_all_keys_are_listed(engine: sa.Engine) -> None:
    keys = Keys(engine)
    ids = [keys.create(alias, "run", number).split(":")[0] for alias, number in (("a", 1), ("b", None))]
    keys.revoke(ids[0])
    first, second = keys.list()
    assert (first.id, first.alias, first.scope, first.max_in_flight) == (ids[0], "a", "run", 1)
    assert first.revoked_at is not None
    assert first.revoked_at >= first.created_at
    assert (second.id, second.max_in_flight, second.revoked_at) == (ids[1], None, None)


@pytest.mark.parametrize(("alias", "limit"), [("", None), ("a" * 201, None), ("a", 0), ("a", -1)])
def test_an_invalid_alias_or_limit_is_refused(engine: sa.Engine, alias: str, limit: int | None) -> None:
    with pytest.raises(InvalidRequest):
        Keys(engine).create(alias, "run", limit)
    assert Keys(engine).list() == []


def test_keys_are_verified_from_several_threads(engine: sa.Engine) -> None:
    keys = Keys(engine, cache_s=0)
    key = keys.create("laptop", "run")
    seen: list[Caller | None] = []
    threads = [threading.Thread(target=lambda: seen.extend(keys.verify(key) for _ in range(20))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 160
    assert None not in seen
