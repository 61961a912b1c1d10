"""A worker process finds its request's input, and the files of its request among those of the server."""

import hashlib
import os
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest

from longtake.errors import DownloadFailed
from longtake.models.lora_downloads import public_folder
from longtake.models.lora_names import Lora
from longtake.settings import Settings
from longtake.storage.local import LocalBlobs
from longtake.worker.channel import Channel
from longtake.worker.messages import FileFound, FileWanted, Run, decode_to_server, encode_to_worker
from longtake.worker.stored_files import hub_file, read_input
from tests.worker.worker_process import CLIP


def test_a_large_input_is_read_from_its_blob(tmp_path: Path) -> None:
    blobs, content = LocalBlobs(tmp_path / "files"), tmp_path / "content"
    content.write_text('{"prompt": "x"}')
    key = f"payloads/r.{hashlib.sha256(content.read_bytes()).hexdigest()}"
    blobs.put(key, content)
    assert read_input(Run("r", "a/b", "", None, tmp_path, "k", key), blobs) == {"prompt": "x"}
    assert read_input(Run("r", "a/b", '{"seed": 1}', None, tmp_path, "k"), blobs) == {"seed": 1}


def test_a_lora_of_the_hub_is_where_the_server_has_downloaded_it(tmp_path: Path) -> None:
    current = Settings(loras_dir=tmp_path / "loras", data_dir=tmp_path)
    LocalBlobs(tmp_path / "files").put("fetched/1", CLIP)
    here = public_folder(current) / "owner--style" / "1" / "a.safetensors"
    here.parent.mkdir(parents=True)
    here.touch()
    replies = [
        FileFound(None),
        FileFound(None, hub_name="owner--style/1/a.safetensors"),
        FileFound("fetched/1", is_fetched=True, hub_name="owner--style/2/a.safetensors"),
        FileFound(None, hub_name="owner--style/3/a.safetensors"),
    ]
    read_end, write_end = os.pipe()
    with open(read_end, "rb") as incoming, open(write_end, "wb", buffering=0) as server:
        sent = BytesIO()
        channel = Channel(incoming, sent).request("r")
        for reply in replies:
            server.write(encode_to_worker(replace(reply, request_id="r")))
        lora = Lora("owner/style", "a.safetensors")
        assert hub_file(lora, channel, current) is None
        assert hub_file(lora, channel, current) == here
        brought = hub_file(lora, channel, current)
        assert brought == public_folder(current) / "owner--style" / "2" / "a.safetensors"
        assert brought.read_bytes() == CLIP.read_bytes()
        with pytest.raises(DownloadFailed, match="owner/style was deleted meanwhile"):
            hub_file(lora, channel, current)
    assert [decode_to_server(line) for line in sent.getvalue().splitlines()] == [
        FileWanted("hf://owner/style/a.safetensors", "r")
    ] * 4
