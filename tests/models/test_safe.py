"""Hostile and broken safetensors files are refused with a sentence, by content."""

import json
import pickle
import time
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from longtake.errors import BadCheckpoint
from longtake.models.safe import MAX_HEADER_BYTES, inside, read_header, read_json
from tests.descriptors import no_free_descriptor
from tests.models.small import raw_file


def _one(**changes: object) -> bytes:
    return json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes}).encode()


def test_a_missing_descriptor_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2, 3)}, tmp_path / "x")
    with no_free_descriptor(), pytest.raises(OSError, match="Too many open files"):
        read_header(tmp_path / "x")
    with no_free_descriptor(), pytest.raises(OSError, match="Too many open files"):
        read_json(tmp_path / "x")


def test_reads_what_safetensors_writes(tmp_path: Path) -> None:
    tensors = {"a": torch.ones(2, 3), "b": torch.zeros((), dtype=torch.bfloat16), "c": torch.ones(0)}
    save_file(tensors, tmp_path / "x", {"config": "{}"})
    header = read_header(tmp_path / "x")
    assert {name: info.shape for name, info in header.tensors.items()} == {"a": (2, 3), "b": (), "c": (0,)}
    assert header.tensors["b"].dtype == "BF16"
    assert header.metadata == {"config": "{}"}


@pytest.mark.parametrize(
    ("header", "data", "reason"),
    [
        (b'{"w": NaN}', b"", "not sound JSON"),
        (b'{"w": Infinity}', b"", "not sound JSON"),
        (b'{"w": ', b"", "not sound JSON"),
        (b'{"\\ud800": ', b"", "not sound JSON"),
        (b'{"a": 1, "a": 2}', b"", r"does not allow there \(line 1 column 16\)\.$"),
        (b'{"w": 1}', b"", "does not allow there"),
        (b'{"w": {"dtype": "F32", "shape": []}}', b"", "lacks its dtype, its shape or its place"),
        (b'{"__metadata__": {"a": 1}}', b"", "does not allow there"),
        (_one(dtype="F4"), bytes(8), "another number of bytes"),
        (_one(dtype="Q4"), bytes(8), "a dtype that safetensors does not have"),
        (_one(dtype=["F32"]), bytes(8), "does not allow there"),
        (_one(shape=[-2]), bytes(8), "does not allow there"),
        (_one(shape=[2.0]), bytes(8), "does not allow there"),
        (_one(shape=[True]), bytes(8), "does not allow there"),
        (_one(shape=[2**62, 0], data_offsets=[0, 0]), b"", "larger than the number of the file's bits"),
        (_one(shape=[2**62] * 100_000), bytes(8), "larger than any memory"),
        (_one(shape=[0] * 100_000, data_offsets=[0, 0]), b"", "has 100000 dimensions; the limit is 8"),
        (_one().replace(b'"w"', b'"' + b"w" * 257 + b'"'), bytes(8), "has 257 characters; the limit is 256"),
        (
            _one(shape=[1] * 9 + [2]).replace(b'"w"', b'"w\\u0000\\u001b[m\\n"'),
            bytes(8),
            r"w\\x00\\x1b\[m\\n has 10 dim",
        ),
        (_one(shape=[2**62, 4]), bytes(8), "larger than any memory"),
        (_one(shape=[3]), bytes(8), "another number of bytes"),
        (_one(shape=[1] * 9 + [2]), bytes(8), "10 dimensions; the limit is 8"),
        (_one(data_offsets=[8, 0]), bytes(8), "overlap or leave a gap"),
        (_one(data_offsets=[0]), bytes(8), "does not allow there"),
        (_one(data_offsets=[8, 16]), bytes(16), "overlap or leave a gap"),
        (_one(), bytes(7), "cut off"),
        (_one(), bytes(9), "belong to no tensor"),
        (
            _one()[:-1] + b', "v": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}',
            bytes(12),
            "overlap or leave a gap",
        ),
        (b"[" * 100_000, b"", "does not start"),
        (b'{"w":' + b"[" * 100_000, b"", "nested too deep"),
    ],
)
def test_refuses_unsound_headers(tmp_path: Path, header: bytes, data: bytes, reason: str) -> None:
    started = time.process_time()
    with pytest.raises(BadCheckpoint, match=reason) as raised:
        read_header(raw_file(tmp_path / "x.safetensors", header, data), name="x")
    assert time.process_time() - started < 1
    assert len(raised.value.message) < 250
    assert raised.value.message.isprintable()


@pytest.mark.parametrize(
    "header",
    [
        b'{"w": {"dtype": "SECRET", "shape": [], "data_offsets": [0, 0]}}',
        b'{"w": {"dtype": "F32", "shape": ["SECRET"], "data_offsets": [0, 0]}}',
        b'{"w": {"dtype": "F32", "SECRET": [], "data_offsets": [0, 0]}}',
        b'{"w": "SECRET"}',
        b'{"__metadata__": {"w": ["SECRET"]}}',
        b'{"SECRET": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}',
        b'{"SECRET": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
        b"{SECRET",
    ],
)
def test_messages_about_unsound_headers_repeat_nothing_of_them(tmp_path: Path, header: bytes) -> None:
    with pytest.raises(BadCheckpoint) as raised:
        read_header(raw_file(tmp_path / "x", header, bytes(12)))
    assert "SECRET" not in raised.value.message


def test_refuses_more_tensors_than_the_limit(tmp_path: Path) -> None:
    save_file({name: torch.ones(1) for name in "abc"}, tmp_path / "x")
    assert len(read_header(tmp_path / "x", max_tensors=3).tensors) == 3
    with pytest.raises(BadCheckpoint, match="it has 3 tensors; the limit is 2"):
        read_header(tmp_path / "x", max_tensors=2)


def test_of_a_name_that_occurs_twice_the_last_entry_is_what_is_loaded(tmp_path: Path) -> None:
    path = raw_file(tmp_path / "x", _one()[:-1] + b", " + _one(shape=[2, 1])[1:], bytes(8))
    assert read_header(path).tensors["w"].shape == tuple(load_file(path)["w"].shape) == (2, 1)


def test_refuses_impossible_lengths(tmp_path: Path) -> None:
    for length, reason in ((MAX_HEADER_BYTES + 1, "the limit is"), (2**63, "the limit is"), (1000, "cut off")):
        with pytest.raises(BadCheckpoint, match=reason):
            read_header(raw_file(tmp_path / "x", b'{"a": 1}', length=length))
    (tmp_path / "short").write_bytes(b"\x02")
    with pytest.raises(BadCheckpoint, match="does not start"):
        read_header(tmp_path / "short")
    with pytest.raises(BadCheckpoint, match="no checkpoint file"):
        read_header(tmp_path / "absent")
    with pytest.raises(BadCheckpoint, match="cannot be read"):
        read_header(tmp_path)


def test_refuses_other_formats_whatever_their_name(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps({"w": [1.0]}))
    with pytest.raises(BadCheckpoint, match="a pickle"):
        read_header(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    with pytest.raises(BadCheckpoint, match=r"torch\.save"):
        read_header(path)
    torch.save({"w": torch.ones(1)}, path)
    with pytest.raises(BadCheckpoint, match="only safetensors files are loaded"):
        read_header(path)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(BadCheckpoint, match="Git LFS pointer"):
        read_header(path)
    path.write_bytes(b"<!DOCTYPE html><html></html>")
    with pytest.raises(BadCheckpoint, match="web page"):
        read_header(path)


def test_a_length_that_looks_like_a_pickle_is_none(tmp_path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode().ljust(0x80)
    assert "w" in read_header(raw_file(tmp_path / "x", header, bytes(8))).tensors


@settings(max_examples=60)
@given(st.data())
def test_a_damaged_file_is_read_or_refused_but_never_anything_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damage") / "x"
    save_file({"a": torch.ones(2, 3), "b": torch.ones(4)}, path)
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        header = read_header(path)
    except BadCheckpoint:
        return
    loaded = load_file(path)
    assert {name: tuple(tensor.shape) for name, tensor in loaded.items()} == {
        name: info.shape for name, info in header.tensors.items()
    }


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "", "..", "a\\..\\x", "out", "deep/out"])
def test_names_stay_inside_their_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "model"
    (folder / "deep").mkdir(parents=True)
    (tmp_path / "x").write_text("secret")
    (folder / "out").symlink_to(tmp_path / "x")
    (folder / "deep" / "out").symlink_to(tmp_path)
    with pytest.raises(BadCheckpoint, match="outside the folder"):
        inside(folder, name)


def test_a_snapshot_of_the_hub_cache_may_link_to_its_blobs(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a--b" / "snapshots" / "0123" / "vae"
    snapshot.mkdir(parents=True)
    blob = tmp_path / "models--a--b" / "blobs" / "abcd"
    blob.parent.mkdir()
    blob.write_text("{}")
    (snapshot / "config.json").symlink_to("../../../blobs/abcd")
    assert inside(snapshot, "config.json") == blob
    (snapshot / "other").symlink_to(tmp_path)
    with pytest.raises(BadCheckpoint):
        inside(snapshot, "other")


@pytest.mark.parametrize("text", ["[]", "{", "[" * 100_000, '"a"'])
def test_read_json_wants_an_object(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(BadCheckpoint, match="JSON"):
        read_json(tmp_path / "config.json")


def test_read_json_has_a_limit(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"a": "b" * 100}))
    with pytest.raises(BadCheckpoint, match="too long"):
        read_json(tmp_path / "config.json", max_bytes=50)
