"""Downloads for waiting requests: real servers, a scripted worker process, and a web site that waits for the test."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from longtake.models.lora_downloads import private_folder, public_folder
from longtake.queue import engine as queue
from longtake.queue import fetches
from longtake.queue.fetches import Group
from longtake.queue.requests import RemoteFile, RequestRow
from longtake.settings import settings
from longtake.storage.local import LocalBlobs
from longtake.worker import fetching
from longtake.worker.fetching import next_group
from longtake.worker.places import Place
from tests.database.fixtures import on_sqlite
from tests.models.stand_in_hub import Hub, serving
from tests.processes import kill
from tests.worker.requests import (
    another_server,
    current,
    effects_of,
    end_of,
    eventually,
    submission,
    submit,
    submit_with,
)
from tests.worker.server import QUICK, Server, slow_store
from tests.worker.site import BODY, Site


@pytest.fixture
def effects(tmp_path: Path) -> Path:
    return tmp_path / "effects"


Serve = Callable[..., Server]


@pytest.fixture
def serve(engine: sa.Engine, tmp_path: Path) -> Iterator[Serve]:
    """Starts servers in this process, which may download from this machine."""
    started: list[Server] = []

    def start(**overrides: Any) -> Server:
        chosen = QUICK | {"data_dir": tmp_path, "trusted_hosts": ("127.0.0.1",)} | overrides
        started.append(Server(engine, settings(**chosen)).start())
        return started[-1]

    yield start
    for server in started:
        server.stop()


def downloaded(folder: Path) -> list[bytes]:
    """Returns the bytes of the files that are downloaded and not deleted, also those that are not complete."""
    found = []
    for place in (folder / "files" / "fetched", folder / "scratch"):
        for path in place.iterdir() if place.exists() else ():
            with suppress(FileNotFoundError):  # The server may delete it meanwhile.
                found.append(path.read_bytes())
    return found


def test_a_device_is_claimed_when_the_files_are_there(
    engine: sa.Engine, serve: Serve, site: Site, tmp_path: Path
) -> None:
    serve()
    row = submit_with(engine, site.url("/a"), site.url("/b"), wants=site.url("/b"), at="planned", do="hang")
    eventually(lambda: site.begun == ["/a"])
    assert end_of(engine, submit(engine)).status_code == 200, "the device is free for others meanwhile"
    site.release("/a")
    eventually(lambda: site.begun == ["/a", "/b"])
    assert current(engine, row).state == "IN_QUEUE"
    site.release("/b")
    eventually(lambda: current(engine, row).state == "IN_PROGRESS")
    assert downloaded(tmp_path) == [BODY, BODY]
    queue.cancel(engine, row.id)
    assert end_of(engine, row).state == "CANCELLED"
    eventually(lambda: downloaded(tmp_path) == [])


@on_sqlite
def test_the_worker_process_learns_where_the_file_is(engine: sa.Engine, serve: Serve, site: Site) -> None:
    serve()
    site.release()
    row = submit_with(engine, site.url("/a"), wants=site.url("/a"))
    answer = json.loads(end_of(engine, row).output or b"")
    assert answer["blob"].startswith(f"fetched/{row.id}.")
    other = submit(engine, wants=site.url("/a"))
    assert json.loads(end_of(engine, other).output or b"")["blob"] is None


@pytest.mark.parametrize(
    ("paths", "field", "words"),
    [
        (("/missing", "/b"), "source_url", "http://127.0.0.1:{port}/missing answered 404 instead of the file."),
        (("/a", "/missing"), "end_image_url", "end_image_url: http://127.0.0.1:{port}/missing answered 404 "),
    ],
)
@on_sqlite
def test_a_failed_download_is_the_outcome(
    engine: sa.Engine, serve: Serve, site: Site, effects: Path, paths: tuple[str, str], field: str, words: str
) -> None:
    serve()
    site.release()
    ended = end_of(engine, submit_with(engine, *map(site.url, paths), effects=str(effects)))
    (detail,) = json.loads(ended.output or b"")["detail"]
    assert (ended.state, ended.status_code, ended.error_type) == ("COMPLETED", 422, "file_download_error")
    assert (detail["loc"], detail["input"]) == (["body", field], site.url("/missing"))
    assert detail["msg"].startswith(words.format(port=site.server.server_port))
    assert ended.headers is not None
    assert ended.headers["x-fal-retryable"] == "false"
    assert effects_of(effects, "began") == [], "no device was claimed"


@on_sqlite
def test_a_lora_is_downloaded_unless_it_is_here_for_the_caller(
    engine: sa.Engine, serve: Serve, site: Site, tmp_path: Path
) -> None:
    server = serve(loras_dir=tmp_path / "loras", max_source_bytes=10**6, max_lora_bytes=len(BODY) - 1)
    site.release()
    urls = [site.url(path) for path in ("/a", "/b", "/lora")]
    refused = end_of(engine, submit_with(engine, *urls))
    assert (refused.status_code, refused.error_type) == (422, "file_too_large")
    assert site.begun == ["/a", "/b", "/lora"]
    folder = private_folder(server.settings, "local")
    folder.mkdir(parents=True)
    (folder / f"{hashlib.sha256(urls[2].encode()).hexdigest()}.safetensors").touch()
    assert end_of(engine, submit_with(engine, *urls)).status_code == 200
    assert site.begun[3:] == ["/a", "/b"]
    assert end_of(engine, submit_with(engine, *urls, key_id="other")).status_code == 422


@on_sqlite
def test_a_slow_download_is_the_outcome(engine: sa.Engine, serve: Serve, site: Site) -> None:
    serve(fetch_min_rate=10**6, fetch_window_s=0.3)
    ended = end_of(engine, submit_with(engine, site.url("/a")))
    assert (ended.status_code, ended.error_type) == (422, "file_download_error")
    assert ended.error is not None
    assert "a download needs at least 976.6 KB/s" in ended.error


@on_sqlite
@pytest.mark.parametrize("how", ["cancelled", "not started in time"])
def test_the_download_of_a_request_that_ends_stops(
    engine: sa.Engine, serve: Serve, site: Site, tmp_path: Path, effects: Path, how: str
) -> None:
    serve()
    row = submit_with(engine, site.url("/a"), start_timeout_s=0.5 if how == "not started in time" else None)
    eventually(lambda: site.begun == ["/a"])
    if how == "cancelled":
        assert queue.cancel(engine, row.id) == "cancelled", "at once, and not when the download has stopped"
    ended = end_of(engine, row)
    assert ended.status_code == (499 if how == "cancelled" else 504)
    eventually(lambda: site.left == ["/a"], within_s=5)
    eventually(lambda: downloaded(tmp_path) == [])
    assert end_of(engine, submit(engine, effects=str(effects))).status_code == 200


@on_sqlite
def test_keys_share_the_places(engine: sa.Engine, serve: Serve, site: Site) -> None:
    serve(fetch_places=2)
    for number in range(4):
        submit_with(engine, site.url(f"/greedy{number}"), key_id="greedy")
    eventually(lambda: sorted(site.begun) == ["/greedy0", "/greedy1"])
    modest = submit_with(engine, site.url("/modest"), key_id="modest")
    eventually(lambda: "/modest" in site.begun, within_s=5)
    assert site.left == ["/greedy1"], "the later one gave its place"
    submit_with(engine, site.url("/third"), key_id="third")
    site.release("/modest")
    assert end_of(engine, modest).status_code == 200
    eventually(lambda: "/third" in site.begun)
    assert site.begun[2:] == ["/modest", "/third"], "before the key that has a place"
    site.release("/third")
    eventually(lambda: site.begun[4:] == ["/greedy1"])


@on_sqlite
def test_a_download_that_does_not_stop_keeps_no_other_from_it(
    engine: sa.Engine, serve: Serve, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = Place.check

    def deaf(place: Place) -> None:
        if not place.fetch.downloads.files[0].url.endswith("/deaf"):
            check(place)

    monkeypatch.setattr(Place, "check", deaf)
    monkeypatch.setattr(fetching, "HEAR_S", 0.3)
    serve(fetch_places=2)
    for path in ("/greedy", "/deaf"):
        submit_with(engine, site.url(path), key_id="greedy")
        eventually(lambda path=path: path in site.begun)  # type: ignore[misc]
    submit_with(engine, site.url("/modest"), key_id="modest")
    eventually(lambda: "/modest" in site.begun, within_s=5)
    assert site.left == ["/greedy"]
    site.release()


def test_the_next_download_is_of_the_key_that_waited_longest() -> None:
    groups = [Group(key_id, "default") for key_id in "abc"]
    assert next_group(groups, {"a": 1}, {"a": 1.0, "b": 3.0, "c": 2.0}).key_id == "c"
    assert next_group(groups, {"a": 1, "b": 2, "c": 2}, {}).key_id == "a"
    assert next_group(groups, {}, {"a": 1.0, "c": 2.0}).key_id == "b"


@on_sqlite
@pytest.mark.parametrize(("limit", "ahead"), [({"fetch_ahead": 2}, 2), ({"fetched_bytes": 1, "fetch_places": 1}, 1)])
def test_files_are_not_downloaded_far_ahead(
    engine: sa.Engine, serve: Serve, site: Site, limit: dict[str, int], ahead: int
) -> None:
    serve(**limit)
    site.release()
    rows = [submit_with(engine, site.url(f"/{number}"), at="planned", do="hang") for number in range(5)]
    eventually(lambda: current(engine, rows[ahead]).ready)
    time.sleep(0.5)
    assert sorted(site.begun) == [f"/{number}" for number in range(1 + ahead)], "one has the device, the others wait"
    queue.cancel(engine, rows[1].id)
    eventually(lambda: current(engine, rows[ahead + 1]).ready)
    assert not current(engine, rows[ahead + 2]).ready


def test_a_download_survives_its_server(
    database_url: str, engine: sa.Engine, serve: Serve, site: Site, tmp_path: Path
) -> None:
    with another_server(database_url, tmp_path, trusted_hosts=["127.0.0.1"]) as server:
        row = submit_with(engine, site.url("/a"), site.url("/b"))
        site.release("/a")
        eventually(lambda: site.begun == ["/a", "/b"])
        kill(server)
    assert site.url("/a") in fetches.of_request(engine, row.id).blobs
    serve(lease_s=3600)  # on the same machine a dead server is noticed before its lease is over
    eventually(lambda: site.begun == ["/a", "/b", "/b"])
    site.release()
    ended = end_of(engine, row)
    assert (ended.status_code, ended.attempt) == (200, 1)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving(Hub({"owner/style": {"s.safetensors": BODY}})) as running:
        yield running


def submit_with_hub_lora(engine: sa.Engine, url: str, **body: Any) -> RequestRow:
    files = (RemoteFile(url, ("loras", 0, "path"), "lora"),)
    return queue.submit(engine, replace(submission(wants=url, **body), files=files))[0]


@on_sqlite
def test_a_lora_on_the_hub_is_downloaded_before_a_device_is_claimed(
    engine: sa.Engine, serve: Serve, hub: Hub, tmp_path: Path
) -> None:
    server = serve(loras_dir=tmp_path / "loras", hf_endpoint=hub.url)
    ended = end_of(engine, submit_with_hub_lora(engine, "hf://owner/style"))
    assert json.loads(ended.output or b"")["blob"].startswith("fetched/")
    again = end_of(engine, submit_with_hub_lora(engine, "hf://owner/style"))
    assert json.loads(again.output or b"")["blob"] is None, "the worker process reads it from the LoRA folder"
    (file,) = public_folder(server.settings).glob("owner--style/*/s.safetensors")
    assert file.read_bytes() == BODY
    missing = submit_with_hub_lora(engine, "hf://owner/style/t.safetensors", effects=str(tmp_path / "effects"))
    ended = end_of(engine, missing)
    assert (ended.status_code, ended.error_type) == (422, "value_error")
    (detail,) = json.loads(ended.output or b"")["detail"]
    assert (detail["loc"], detail["input"]) == (["body", "loras", 0, "path"], "t.safetensors")
    assert effects_of(tmp_path / "effects", "began") == [], "no device was claimed"


@on_sqlite
def test_a_download_from_the_hub_survives_its_server(
    database_url: str, engine: sa.Engine, serve: Serve, hub: Hub, tmp_path: Path
) -> None:
    chosen: dict[str, Any] = {"loras_dir": tmp_path / "loras", "hf_endpoint": hub.url}
    hub.waits["s.safetensors"] = threading.Event()
    with another_server(database_url, tmp_path, **chosen) as server:
        row = submit_with_hub_lora(engine, "hf://owner/style")
        eventually(lambda: hub.downloads("s.safetensors"))
        kill(server)
    hub.waits["s.safetensors"].set()
    started = serve(**chosen, lease_s=3600)
    ended = end_of(engine, row)
    assert (ended.status_code, ended.attempt) == (200, 1)
    (file,) = public_folder(started.settings).rglob("*.safetensors")
    assert file.read_bytes() == BODY


@on_sqlite
@pytest.mark.parametrize("max_attempts", [1, 3])
def test_a_machine_that_lacks_a_lora_sends_the_request_back(
    engine: sa.Engine, serve: Serve, hub: Hub, tmp_path: Path, max_attempts: int
) -> None:
    one = serve(loras_dir=tmp_path / "one", hf_endpoint=hub.url, slots=("cpu@another",))
    here = public_folder(one.settings) / "owner--style" / hashlib.sha256(BODY).hexdigest()[:16] / "s.safetensors"
    here.parent.mkdir(parents=True)
    here.write_bytes(BODY)
    row = submit_with_hub_lora(engine, "hf://owner/style")
    eventually(lambda: current(engine, row).ready)
    assert fetches.of_request(engine, row.id).blobs == {}
    serve(loras_dir=tmp_path / "two", hf_endpoint=hub.url, max_attempts=max_attempts)
    ended = end_of(engine, row)
    assert json.loads(ended.output or b"")["blob"].startswith(f"fetched/{row.id}.")
    assert ended.attempt == 1, "the first try does not count"


class ForgetfulBlobs(LocalBlobs):
    """A folder that soon loses each file that was downloaded for a request."""

    def size(self, key: str) -> int | None:
        return None if key.startswith("fetched/") else super().size(key)


@on_sqlite
def test_a_file_that_is_gone_again_and_again_ends_the_request(engine: sa.Engine, site: Site, tmp_path: Path) -> None:
    site.release()
    chosen = settings(**QUICK | {"data_dir": tmp_path, "trusted_hosts": ("127.0.0.1",), "max_attempts": 2})
    server = Server(engine, chosen, store=slow_store(engine, tmp_path, ForgetfulBlobs(tmp_path / "files"))).start()
    try:
        ended = end_of(engine, submit_with(engine, site.url("/a"), wants=site.url("/a")))
    finally:
        server.stop()
    assert (ended.status_code, ended.error_type) == (500, "runner_server_error")
    assert ended.error == "The files of this request were downloaded 3 times, and were gone each time when it began."
    assert site.begun == ["/a"] * 3


@on_sqlite
def test_a_download_that_kills_its_servers_ends(
    database_url: str, engine: sa.Engine, serve: Serve, site: Site, tmp_path: Path
) -> None:
    row = submit_with(engine, site.url("/a"))
    with another_server(database_url, tmp_path, trusted_hosts=["127.0.0.1"]) as server:
        eventually(lambda: site.begun == ["/a"])
        kill(server)
    serve(max_attempts=1)
    ended = end_of(engine, row)
    assert (ended.status_code, ended.error_type) == (500, "runner_server_error")
    assert ended.error == "The server died while it downloaded the files of this request, once."
    assert site.begun == ["/a"]
    eventually(lambda: downloaded(tmp_path) == [])


@on_sqlite
def test_a_server_that_drains_leaves_its_downloads_to_others(engine: sa.Engine, serve: Serve, site: Site) -> None:
    server = serve()
    row = submit_with(engine, site.url("/a"))
    eventually(lambda: site.begun == ["/a"])
    server.slots.drain(0.1)
    assert fetches.claim(engine, Group("local", "default"), "other") is not None
    assert current(engine, row).state == "IN_QUEUE"
