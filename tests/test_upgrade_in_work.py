"""What an earlier version did when it was killed goes on in this version: webhooks, uploads, downloads and windows.

The folder is of commit 16807e6, whose database lacks the newest three migrations.
"""

import json
import sqlite3
import tarfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from longtake.families import plan_from_json
from tests.queue.receiver import Receiver, listening
from tests.upgraded import FOLDERS, PUBLIC, Server, serving

KEY = "37155034-394c-4f2a-ad83-736f1e124eab:e36182ba8b5041f8d62735945c034b0435de17eab12019061699f575d2fd4c51"
SITE = "http://127.0.0.1:43945"
"""The site with a source and with the receiver of webhooks, which answered 503, in the old folder."""

LTX2, LTXV = "fal-ai/ltx-2.3-22b", "fal-ai/ltxv-13b-098-distilled"
FINISHED = "f22b7b79-bbc8-4421-bc7d-1f4c20ab840d"
"""A finished request, whose webhook has failed twice."""
RUNNING = "8061b84f-bf1b-4550-bc64-df7b36ebba74"
"""A request of which one window is finished."""
WAITING = "1859865a-fbcf-470e-8d2f-2d8178817eb5"
"""A waiting request with a webhook."""
DOWNLOADED = "ba98aabd-bb8f-404b-8094-7d5fe4d4f6df"
"""A waiting request whose source was downloaded already."""

UPLOADS = f"{PUBLIC}/cdn/uploads"
PARTS = (
    f"{UPLOADS}/17-7982CZQgu0icV5N26fbyYhzfiyqofMK0p5S59uYE",
    f"{PUBLIC}/cdn/files/D7ZG76be7J6ZpycGg67vRM5gyD3TF0Ww.mp4",
)
"""Where the parts of an upload are sent, and where its file will be. Its first part is stored."""
WHOLE = (
    f"{UPLOADS}/HWjAuQZcIhfkvB1P_sxv-yN7f_wqMKBkGiiOBzAtBXs",
    f"{PUBLIC}/cdn/files/WrHY4J496S4fR1qlucyQ_RAasvJ7o3Nw.mp4",
)
"""The same of an upload in one piece, of which nothing is stored."""


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with listening() as running:
        yield running


def webhook(receiver: Receiver, request_id: str) -> dict[str, Any] | None:
    """Returns the webhook of a request; None if it was not sent yet."""
    bodies = (json.loads(body) for _, body in receiver.got)
    return next((body for body in bodies if body["request_id"] == request_id), None)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Path:
    """The old folder, as if its server had been killed a moment ago, with the receiver at its present address."""
    folder, site = tmp_path_factory.mktemp("upgrade"), receiver.url.partition("/hook")[0]
    with tarfile.open(FOLDERS / "16807e6.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    with closing(sqlite3.connect(folder / "data" / "longtake.db")) as database, database:
        (newest,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
        assert newest == "0016"
        late_s = time.time() - database.execute("SELECT max(created_at) FROM requests").fetchone()[0]
        for table, columns in {
            "requests": ("created_at", "started_at", "completed_at"),
            "webhook_deliveries": ("next_at", "give_up_at"),
            "uploads": ("expires_at",),
            "files": ("created_at", "expires_at"),
        }.items():
            for column in columns:
                database.execute(f"UPDATE {table} SET {column} = {column} + ?", [late_s])
        for table, column in (("webhook_deliveries", "url"), ("fetches", "files"), ("fetches", "blobs")):
            database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", [SITE, site])
        for request_id, hook, body in database.execute("SELECT id, webhook_url, body FROM requests").fetchall():
            moved = (hook and hook.replace(SITE, site), body.replace(SITE.encode(), site.encode()))
            database.execute("UPDATE requests SET webhook_url = ?, body = ? WHERE id = ?", [*moved, request_id])
    return folder / "data"


def windows(data_dir: Path) -> dict[str, int]:
    """Returns the finished windows of the running request: folder and name of the file -> time of its last change."""
    found = dict[str, int]()
    for path in (data_dir / "work" / RUNNING).glob("steps-*/window-*.safetensors"):
        with suppress(FileNotFoundError):  # the request has ended, and its folder is deleted
            found[f"{path.parent.name}/{path.name}"] = path.stat().st_mtime_ns
    return found


@pytest.fixture(scope="module")
def server(old: Path) -> Iterator[Server]:
    with serving(old, KEY, {"LONGTAKE_TRUSTED_HOSTS": "127.0.0.1"}) as running:
        yield running


def test_the_work_goes_on_with_the_finished_window(old: Path, request: pytest.FixtureRequest) -> None:
    before, seen = windows(old), dict[str, int]()
    assert [name.partition("/")[2] for name in before] == ["window-000.safetensors"]
    server: Server = request.getfixturevalue("server")

    def has_ended() -> bool:
        seen.update(windows(old))
        return server.row(RUNNING).has_ended

    server.wait_until(has_ended)
    row = server.row(RUNNING)
    assert (row.state, row.status_code, row.attempt) == ("COMPLETED", 200, 2), row.error
    plan = plan_from_json(row.plan or {})
    assert plan is not None
    assert server.get(f"/queue/{LTXV}/requests/{RUNNING}").json()["seed"] == plan.seed == 7
    assert before.items() <= seen.items(), "it was not made again in its folder"
    assert len({name.partition("/")[0] for name in seen}) == 1, "nor in another one"


def test_an_upload_is_completed(server: Server) -> None:
    (first,) = (server.data_dir / "files" / "parts").glob("*")
    data = first.read_bytes() + b"second"
    address, url = PARTS
    second = server.ask("PUT", f"{address}/2", content=b"second").json()
    parts = [{"partNumber": 1, "etag": first.name.rpartition(".")[2]}, second]
    assert server.ask("POST", f"{address}/complete", json={"parts": parts}).status_code == 200
    assert server.get(url).content == data
    address, url = WHOLE
    assert server.ask("PUT", address, content=data).status_code == 200
    assert server.get(url).content == data


def test_webhooks_that_waited_are_sent(server: Server, receiver: Receiver) -> None:
    server.wait_until(lambda: webhook(receiver, FINISHED) is not None)
    body = webhook(receiver, FINISHED)
    assert body is not None
    assert (body["status"], body["payload"]["seed"]) == ("OK", 31)
    assert len(server.get(body["payload"]["video"]["url"]).content) == body["payload"]["video"]["file_size"]
    assert server.ended(WAITING).status_code == 200
    server.wait_until(lambda: webhook(receiver, WAITING) is not None)


def test_a_downloaded_source_is_not_downloaded_again(server: Server) -> None:
    """The receiver in the place of its site would not send it."""
    row = server.ended(DOWNLOADED)
    assert (row.state, row.status_code, row.attempt) == ("COMPLETED", 200, 1), row.error
    assert server.get(f"/queue/{LTX2}/requests/{DOWNLOADED}").json()["seed"] == 6
    server.wait_until(lambda: not list((server.data_dir / "files" / "fetched").glob("*")))
