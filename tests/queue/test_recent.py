"""Lists of requests by endpoint, state and prompt, and the trees of those that extend others."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from longtake.database.tables import requests
from longtake.queue import engine as queue
from longtake.queue.erasure import erase
from longtake.queue.recent import SHOWN_STATES, RecentFilter, RecentPage, count_open, one, recent, shown_state, tree
from longtake.queue.requests import CANCELLED, Lineage, Outcome, RequestRow, Submission, search_text
from longtake.storage.files import FileStore, NewFile
from longtake.storage.local import LocalBlobs
from tests.database.fixtures import on_sqlite

COLUMNS = [requests.c[name] for name in ("id", "seq", "state", "status_code")]
DONE, FAILED = Outcome(200, {}), Outcome(422, {})


def submit(engine: sa.Engine, prompt: str = "", *, endpoint: str = "a/b", key_id: str = "k", **more: Any) -> RequestRow:
    body = Submission(endpoint, "default", key_id, b"{}", "http://h/queue", search_text=search_text(prompt), **more)
    return queue.submit(engine, body)[0]


def found(
    engine: sa.Engine, limit: int = 9, before: int | None = None, scanned: int = 99, **selected: Any
) -> RecentPage:
    return recent(engine, COLUMNS, RecentFilter(**selected), limit=limit, before=before, scanned=scanned)


def ids(page: RecentPage) -> list[str]:
    return [row.id for row in page.rows]


def test_requests_are_selected_by_key_endpoint_and_state(engine: sa.Engine) -> None:
    mine = submit(engine, outcome=DONE)
    failed = submit(engine, endpoint="a/c", outcome=FAILED)
    running = submit(engine, key_id="other")
    assert queue.claim(engine, "default", "w") is not None
    cancelled, waiting = submit(engine), submit(engine)
    queue.cancel(engine, cancelled.id)
    everything = [waiting.id, cancelled.id, running.id, failed.id, mine.id]
    assert ids(found(engine)) == everything
    assert ids(found(engine, key_id="k")) == [waiting.id, cancelled.id, failed.id, mine.id]
    assert ids(found(engine, endpoint="a/c")) == [failed.id]
    by_state = {state: ids(found(engine, state=state)) for state in SHOWN_STATES}
    assert by_state == {
        "waiting": [waiting.id],
        "running": [running.id],
        "done": [mine.id],
        "failed": [failed.id],
        "cancelled": [cancelled.id],
    }
    assert [shown_state(row.state, row.status_code) for row in found(engine).rows] == [
        *("waiting", "cancelled", "running", "failed", "done"),
    ]
    assert count_open(engine, None) == {"waiting": 1, "running": 1}
    assert count_open(engine, "other") == {"waiting": 0, "running": 1}


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("A boat sails ON", "sails on"),
        ("Über den Straßen", "ÜBER DEN STRASSEN"),
        ("100% sure_", "0% sure_"),
        ("a \0 b", "A  B"),
    ],
)
def test_requests_are_found_by_a_part_of_their_prompt(engine: sa.Engine, prompt: str, text: str) -> None:
    row = submit(engine, prompt)
    submit(engine, "another")
    assert ids(found(engine, text=text)) == [row.id]
    assert ids(found(engine, text=row.id)) == [row.id]
    assert ids(found(engine, text="%sails%")) == []


def test_the_text_of_a_deleted_input_is_not_found(engine: sa.Engine, tmp_path: Path) -> None:
    row = submit(engine, "a secret", lineage=Lineage("key", "parent", "root"), outcome=DONE)
    assert erase(FileStore(engine, LocalBlobs(tmp_path / "files"), tmp_path / "scratch"), row.id)
    assert ids(found(engine, text="secret")) == []
    with engine.connect() as connection:
        stored = connection.execute(sa.select(requests.c.source, requests.c.search_text, requests.c.parent)).one()
    assert tuple(stored) == (None, None, "parent")


def test_a_search_reads_a_bounded_number_of_requests(engine: sa.Engine) -> None:
    rows = [submit(engine, "rare" if number in (0, 9) else "common") for number in range(12)]
    pages, before = [], None
    for _ in range(4):
        page = found(engine, text="rare", scanned=4, before=before)
        pages.append((ids(page), page.older))
        before = page.older
    assert pages == [([rows[9].id], rows[8].seq), ([], rows[4].seq), ([rows[0].id], rows[0].seq), ([], None)]
    page = found(engine, limit=2, text="common", scanned=4)
    assert (ids(page), page.older) == ([rows[11].id, rows[10].id], rows[10].seq)
    page = found(engine, limit=5, scanned=4)
    assert len(page.rows) == 5, "without a filter all rows match"


def test_a_parent_and_a_source_are_shown_while_they_are_stored(engine: sa.Engine, tmp_path: Path) -> None:
    store = FileStore(engine, LocalBlobs(tmp_path / "files"), tmp_path / "scratch")
    parent = submit(engine, key_id="other", outcome=DONE)
    path = store.scratch_path()
    path.write_bytes(b"frames")
    key = store.add_result(parent.id, NewFile("other", "a.mp4", "video/mp4"), path)
    child = submit(engine, lineage=Lineage(key, parent.id, parent.id), outcome=CANCELLED)

    def shown(key_id: str | None) -> tuple[Any, Any]:
        row = one(engine, COLUMNS, child.id, key_id)
        assert row is not None
        return row.shown_parent, row.shown_source

    assert shown(None) == (parent.id, key)
    assert shown("k") == (None, key), "another key's request is not shown"
    store.delete(key)
    assert shown(None) == (parent.id, None)
    with engine.begin() as connection:
        connection.execute(sa.delete(requests).where(requests.c.id == parent.id))
    assert shown(None) == (None, None)
    assert one(engine, COLUMNS, child.id, "other") is None


def test_an_expired_source_is_not_shown(engine: sa.Engine, tmp_path: Path) -> None:
    store = FileStore(engine, LocalBlobs(tmp_path / "files"), tmp_path / "scratch", retention_s=-1)
    path = store.scratch_path()
    path.write_bytes(b"frames")
    key = store.add_result("r", NewFile("k", "a.mp4", "video/mp4"), path)
    submit(engine, lineage=Lineage(key))
    assert found(engine).rows[0].shown_source is None


def test_a_tree_is_found_from_each_of_its_requests(engine: sa.Engine) -> None:
    root = submit(engine)
    children = [submit(engine, lineage=Lineage("f", root.id, root.id)) for _ in range(2)]
    grandchild = submit(engine, lineage=Lineage("f", children[0].id, root.id))
    foreign = submit(engine, key_id="admin", lineage=Lineage("f", children[1].id, root.id))
    alone = submit(engine)
    tree_ids = [foreign.id, grandchild.id, children[1].id, children[0].id, root.id]

    def of(row: RequestRow | str, key_id: str | None = None, limit: int = 9, **more: Any) -> list[str]:
        request_id = row if isinstance(row, str) else row.id
        return ids(tree(engine, COLUMNS, request_id, key_id, limit=limit, **more))

    for row in (root, *children, grandchild, foreign):
        assert of(row) == tree_ids
        assert of(row, "k") == tree_ids[1:]
    page = tree(engine, COLUMNS, root.id, None, limit=2)
    assert (ids(page), page.older) == (tree_ids[:2], grandchild.seq)
    page = tree(engine, COLUMNS, root.id, None, limit=3, before=page.older)
    assert (ids(page), page.older) == (tree_ids[2:], None)
    assert of(alone) == [alone.id]
    assert of("unknown") == []
    assert of(root, children_only=True) == [children[1].id, children[0].id]
    assert of(children[1], children_only=True) == [foreign.id]
    assert of(children[1], "k", children_only=True) == []


@on_sqlite
@pytest.mark.parametrize("key_id", ["k", None])
def test_no_list_reads_all_requests(engine: sa.Engine, key_id: str | None) -> None:
    values = {"endpoint": "a/b", "pool": "p", "state": "COMPLETED", "priority": 0, "key_id": "k", "body": b"x"}
    values |= {"base_url": "u", "store_io": True, "may_retry": True, "created_at": 1.0, "status_code": 200}
    with engine.begin() as connection:
        connection.execute(sa.insert(requests), [values | {"id": f"r{number}"} for number in range(2000)])
    engine.dispose()
    calls: list[None] = []
    # SQLite calls the handler after each 10 of its instructions. It needs several to read a row.
    sa.event.listen(engine, "connect", lambda raw, _: raw.set_progress_handler(lambda: calls.append(None), 10))
    selections: list[dict[str, Any]] = [
        {},
        {"state": "waiting"},
        {"state": "failed"},
        {"endpoint": "a/c"},
        {"text": "x"},
    ]
    for selected in selections:
        found(engine, key_id=key_id, scanned=50, **selected)
    tree(engine, COLUMNS, "r7", key_id, limit=9)
    count_open(engine, key_id)
    used = len(calls)
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT count(*) FROM requests WHERE base_url = 'none'"))
    assert used < len(calls) - used, "less than one statement that reads all of them"
