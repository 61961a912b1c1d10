"""Where the files of a running request are, and which of them a machine lacks."""

from dataclasses import replace
from pathlib import Path

import sqlalchemy as sa

from longtake.models.lora_downloads import public_folder
from longtake.queue import engine as queue
from longtake.queue import fetches
from longtake.queue.fetches import Group
from longtake.queue.requests import RemoteFile
from longtake.settings import settings
from longtake.storage.files import FileStore, NewFile
from longtake.storage.local import LocalBlobs
from longtake.worker.claims import Claims
from longtake.worker.context import SlotContext
from longtake.worker.leases import Lease
from longtake.worker.messages import FileFound
from longtake.worker.request_files import find_file, missing_files
from tests.database.fixtures import on_sqlite
from tests.worker.requests import submission

SOURCE = RemoteFile("https://example.com/a.mp4", ("video", "video_url"), "source")
LORA = RemoteFile("hf://owner/style", ("loras", 0, "path"), "lora")
REFUSED = RemoteFile("http://example.com/b.safetensors", ("loras", 1, "path"), "lora")
NAME = "owner--style/1/s.safetensors"


def context_of(engine: sa.Engine, folder: Path) -> SlotContext:
    chosen = settings(data_dir=folder, loras_dir=folder / "loras")
    store = FileStore(engine, LocalBlobs(folder / "files"), folder / "scratch")
    claims = Claims(engine, Lease(engine, 60.0))
    return SlotContext(engine, chosen, store, claims, lambda _: None, lambda _: None, lambda _: None, ())


@on_sqlite
def test_files_are_missing_until_they_are_stored_or_on_this_machine(engine: sa.Engine, tmp_path: Path) -> None:
    context = context_of(engine, tmp_path)
    row = queue.submit(engine, replace(submission(), files=(SOURCE, LORA, REFUSED)))[0]
    fetch = fetches.claim(engine, Group("local", "default"), "s")
    assert fetch is not None
    fetches.store(engine, fetch, {SOURCE.url: "fetched/1"}, {LORA.url: NAME}, 0)
    assert missing_files(context, row) == {SOURCE.url, LORA.url}, "a refused URL is reported when the request runs"
    assert find_file(context, row, SOURCE.url) is None
    assert find_file(context, row, LORA.url) is None
    assert find_file(context, row, REFUSED.url) == FileFound(None)
    file = tmp_path / "file"
    file.touch()
    context.store.blobs.put("fetched/1", file)
    (public_folder(context.settings) / NAME).parent.mkdir(parents=True)
    (public_folder(context.settings) / NAME).touch()
    assert missing_files(context, row) == set()
    assert find_file(context, row, SOURCE.url) == FileFound("fetched/1", is_fetched=True)
    assert find_file(context, row, LORA.url) == FileFound(None, hub_name=NAME)


@on_sqlite
def test_a_downloaded_file_that_is_cut_off_is_missing(engine: sa.Engine, tmp_path: Path) -> None:
    context, file = context_of(engine, tmp_path), tmp_path / "file"
    row = queue.submit(engine, replace(submission(), files=(SOURCE,)))[0]
    fetch = fetches.claim(engine, Group("local", "default"), "s")
    assert fetch is not None
    key = fetches.new_blob_key(row.id, 6)
    fetches.store(engine, fetch, {SOURCE.url: key}, {}, 6)
    for content, missing in ((b"frames", set[str]()), (b"frame", {SOURCE.url}), (b"", {SOURCE.url})):
        file.write_bytes(content)
        context.store.blobs.put(key, file)
        assert missing_files(context, row) == missing
        assert (find_file(context, row, SOURCE.url) is None) == bool(missing)
    context.store.blobs.delete(key)
    assert missing_files(context, row) == {SOURCE.url}


@on_sqlite
def test_own_files_and_files_that_no_server_downloads(engine: sa.Engine, tmp_path: Path) -> None:
    context = context_of(engine, tmp_path)
    row = queue.submit(engine, submission())[0]
    file = tmp_path / "file"
    file.touch()
    key = context.store.add_result(row.id, NewFile("local", "a.mp4", "video/mp4", None), file)
    found = find_file(context, row, f"http://127.0.0.1:8000/cdn/files/{key}")
    assert found is not None
    assert found.blob is not None
    assert found.is_own
    assert find_file(context, row, f"http://127.0.0.1:8000/cdn/files/{'a' * 32}.mp4") == FileFound(None, is_own=True)
    context.store.blobs.delete(found.blob)
    assert find_file(context, row, f"http://127.0.0.1:8000/cdn/files/{key}") == FileFound(None, is_own=True), "lost"
    assert find_file(context, row, "https://example.com/a.mp4") == FileFound(None)
    assert missing_files(context, row) == set()
