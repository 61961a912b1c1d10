"""Downloads of files for waiting requests, on both kinds of database."""

from dataclasses import replace

import pytest
import sqlalchemy as sa

from longtake.database.tables import servers
from longtake.queue import engine as queue
from longtake.queue import fetches
from longtake.queue.fetches import Downloads, Fetch, Group
from longtake.queue.requests import Outcome, Priority, RemoteFile, RequestRow
from tests.worker.requests import current, submission

SOURCE = RemoteFile("https://example.com/a.mp4", ("video", "video_url"), "source")
IMAGE = RemoteFile("https://example.com/b.png", ("end_image_url",), "end_image")
FAILED = Outcome(422, {"detail": "gone"}, error="gone", error_type="file_download_error")
LOCAL = Group("local", "default")


def submit(engine: sa.Engine, group: Group = LOCAL, priority: Priority = "normal") -> RequestRow:
    plain = submission(group.pool, key_id=group.key_id)
    return queue.submit(engine, replace(plain, files=(SOURCE, IMAGE), priority=priority))[0]


def claimed(engine: sa.Engine, server: str = "s", group: Group = LOCAL) -> Fetch:
    fetch = fetches.claim(engine, group, server)
    assert fetch is not None
    return fetch


def test_a_request_waits_for_its_files(engine: sa.Engine) -> None:
    row = submit(engine)
    later = queue.submit(engine, submission())[0]
    assert (row.ready, later.ready) == (False, True)
    assert list(queue.waiting(engine, "default")) == [row.id, later.id], "both are in the queue"
    found = queue.claim(engine, "default", "w")
    assert found is not None
    assert found.id == later.id
    assert queue.claim(engine, "default", "w") is None
    fetch = claimed(engine)
    assert fetch == Fetch(row.id, LOCAL, "s", Downloads((SOURCE, IMAGE), attempt=1))
    assert fetches.claim(engine, LOCAL, "other") is None
    assert fetches.held_by(engine, "s") == {row.id}
    assert fetches.store(engine, fetch, {SOURCE.url: "fetched/1"}, {}, 0)
    assert fetches.of_request(engine, row.id).blobs == {SOURCE.url: "fetched/1"}
    assert fetches.of_request(engine, later.id) == Downloads()
    assert fetches.finish(engine, fetch)
    assert not fetches.finish(engine, fetch)
    assert current(engine, row).version > row.version, "so that cached statuses are read again"
    found = queue.claim(engine, "default", "w")
    assert found is not None
    assert found.id == row.id
    queue.return_to_queue(engine, found, attempt_failed=True)
    assert queue.claim(engine, "default", "w") is not None, "a second attempt uses the same files"


@pytest.mark.parametrize("state", ["waiting", "running", "done"])
def test_the_blobs_go_when_the_request_ends(engine: sa.Engine, state: str) -> None:
    row = submit(engine)
    if state != "waiting":
        fetch = claimed(engine)
        fetches.store(engine, fetch, {SOURCE.url: "fetched/1"}, {}, 0)
        if state == "done":
            fetches.finish(engine, fetch)
    assert fetches.ended(engine) == {}
    assert queue.cancel(engine, row.id) == "cancelled"
    assert fetches.held_by(engine, "s") == set()
    assert fetches.ended(engine) == {row.id: [] if state == "waiting" else ["fetched/1"]}
    fetches.delete(engine, [row.id])
    assert fetches.ended(engine) == {}


def test_a_failed_download_ends_the_request_once(engine: sa.Engine) -> None:
    row = submit(engine)
    fetch = claimed(engine)
    assert queue.fail_fetch(engine, fetch, FAILED)
    assert not queue.fail_fetch(engine, fetch, FAILED)
    ended = current(engine, row)
    assert (ended.state, ended.status_code, ended.error_type) == ("COMPLETED", 422, "file_download_error")


def test_a_server_that_lost_a_download_changes_nothing(engine: sa.Engine) -> None:
    row = submit(engine)
    old = claimed(engine, "dead")
    assert fetches.store(engine, old, {SOURCE.url: "fetched/1"}, {}, 0)
    with engine.begin() as connection:
        facts = {"host": "h", "pid": 1, "boot": "", "born": 0, "beats": 0, "beat_at": 0.0}
        connection.execute(sa.insert(servers).values(id="alive", **facts))
    (orphan,) = fetches.orphans(engine)
    assert (orphan.request_id, orphan.server, orphan.downloads.attempt) == (row.id, "dead", 1)
    assert fetches.put_back(engine, row.id, "dead", attempt_failed=True)
    fetch = claimed(engine, "alive")
    assert fetch.downloads.blobs == {SOURCE.url: "fetched/1"}, "what is downloaded is not downloaded again"
    assert fetch.downloads.attempt == 2
    assert fetches.orphans(engine) == []
    assert not fetches.store(engine, old, {}, {}, 0)
    assert not fetches.finish(engine, old)
    assert not queue.fail_fetch(engine, old, FAILED)
    assert not fetches.put_back(engine, row.id, "dead", attempt_failed=True)
    assert fetches.held_by(engine, "alive") == {row.id}


def test_downloads_begin_in_the_order_of_the_queue(engine: sa.Engine) -> None:
    low, first, second = submit(engine, priority="low"), submit(engine), submit(engine)
    assert [claimed(engine).request_id for _ in range(3)] == [first.id, second.id, low.id]
    assert fetches.put_back(engine, first.id, "s", attempt_failed=False)
    again = claimed(engine)
    assert (again.request_id, again.downloads.attempt) == (first.id, 1), (
        "an attempt that its server stopped does not count"
    )


def test_a_group_has_a_limited_number_of_files_ahead(engine: sa.Engine) -> None:
    rows = [submit(engine) for _ in range(3)]
    others = {Group("local", "large"), Group("other", "default")}
    for group in others:
        submit(engine, group)
    assert set(fetches.waiting_groups(engine, 2, 10**9)) == {LOCAL, *others}
    for _ in range(2):
        fetches.finish(engine, claimed(engine))
    assert set(fetches.waiting_groups(engine, 2, 10**9)) == others
    found = queue.claim(engine, "default", "w")
    assert found is not None
    assert found.id == rows[0].id, "a request that has a device does not count"
    assert LOCAL in fetches.waiting_groups(engine, 2, 10**9)


def test_the_disk_space_of_files_ahead_of_a_pool_is_bounded_for_a_key_and_for_all(engine: sa.Engine) -> None:
    large, other = Group("local", "large"), Group("other", "default")  # large: the same key in another pool
    for group in (LOCAL, LOCAL, large, other, other):
        submit(engine, group)
    fetch = claimed(engine)
    assert set(fetches.waiting_groups(engine, 9, 100)) == {LOCAL, large, other}
    assert fetches.store(engine, fetch, {SOURCE.url: "fetched/1"}, {}, 49)
    assert set(fetches.waiting_groups(engine, 9, 100)) == {LOCAL, large, other}
    assert fetches.store(engine, fetch, {SOURCE.url: "fetched/1", IMAGE.url: "fetched/2"}, {}, 50)
    assert set(fetches.waiting_groups(engine, 9, 100)) == {large, other}, "the key uses half of the pool"
    assert fetches.finish(engine, fetch)
    assert set(fetches.waiting_groups(engine, 9, 100)) == {large, other}
    of_other = claimed(engine, group=other)
    assert fetches.store(engine, of_other, {SOURCE.url: "fetched/3"}, {}, 51)
    assert fetches.waiting_groups(engine, 9, 100) == [large], "a full pool stops no other pool"
    assert fetches.put_back(engine, of_other.request_id, "s", attempt_failed=False)
    assert set(fetches.waiting_groups(engine, 9, 100)) == {large, other}, "a download that waits stops nobody"
    assert queue.claim(engine, "default", "w") is not None
    assert set(fetches.waiting_groups(engine, 9, 100)) == {LOCAL, large, other}, "nor a request that has a device"


def test_a_request_is_sent_back_for_files_that_a_machine_lacks(engine: sa.Engine) -> None:
    row = submit(engine)
    fetch = claimed(engine)
    blobs = {SOURCE.url: "fetched/1", IMAGE.url: "fetched/2"}
    assert fetches.store(engine, fetch, blobs, {"hf://a/b": "a--b/1/c.safetensors"}, 0)
    assert fetches.finish(engine, fetch)
    running = queue.claim(engine, "default", "w")
    assert running is not None
    assert queue.send_back(engine, running, {IMAGE.url})
    assert not queue.send_back(engine, running, {IMAGE.url})
    now = current(engine, row)
    assert (now.state, now.ready, now.attempt, now.server) == ("IN_QUEUE", False, 0, None)
    again = claimed(engine)
    assert again.downloads == Downloads(
        (SOURCE, replace(IMAGE, must_be_stored=True)),
        {SOURCE.url: "fetched/1"},
        {"hf://a/b": "a--b/1/c.safetensors"},
        attempt=2,
    )


def test_a_cancelled_request_is_not_sent_back(engine: sa.Engine) -> None:
    row = submit(engine)
    assert fetches.finish(engine, claimed(engine))
    running = queue.claim(engine, "default", "w")
    assert running is not None
    assert queue.cancel(engine, row.id) == "requested"
    assert queue.send_back(engine, running, {IMAGE.url})
    assert current(engine, row).state == "CANCELLED"
    assert fetches.ended(engine) == {row.id: []}
