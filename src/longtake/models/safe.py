"""Reads the header of a safetensors file without trusting it: limits first, and never a pickle. Without torch.

The format: 8 bytes little-endian header length, a JSON object name -> {dtype, shape, data_offsets}, then the data.
"""

import json
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from longtake.errors import BadCheckpoint

MAX_HEADER_BYTES = 100 * 1024**2
"""The limit of the safetensors library itself."""

MAX_TENSORS = 100_000

DTYPE_BITS: Mapping[str, int] = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "I64": 64,
    "U64": 64,
    "F64": 64,
}
FLOATS = frozenset({"F8_E4M3", "F8_E5M2", "F16", "BF16", "F32", "F64"})

_FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a zip archive, as torch.save writes (a pickle)"),
    (b"\x80", "a pickle"),
    (b"GGUF", "a GGUF file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself: fetch the real one"),
    (b"<", "a web page or XML, not weights"),
    (b"Rar!", "a RAR archive"),
    (b"\x1f\x8b", "a gzip archive"),
)


@dataclass(frozen=True)
class Stored:
    """One tensor of a file: dtype in safetensors' names, shape, and its bytes [start, stop) after the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Header:
    """A checked header: the tensors by name, in file order, and the file's own metadata."""

    tensors: Mapping[str, Stored]
    metadata: Mapping[str, str]


def read_header(path: Path, max_header_bytes: int = MAX_HEADER_BYTES) -> Header:
    """The header of safetensors file `path`, judged by content whatever its name.

    Raises `BadCheckpoint` for anything that is not a complete and well-formed safetensors file.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            raw = _raw_header(path, file.read(32), size, file, max_header_bytes)
    except FileNotFoundError:
        raise BadCheckpoint(f"There is no checkpoint file {path}.") from None
    except OSError as error:
        raise BadCheckpoint(f"{path} cannot be read: {error.strerror}.") from None
    entries = _parse(path, raw)
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        _refuse(path, "its __metadata__ is not a table of texts")
    if len(entries) > MAX_TENSORS:
        _refuse(path, f"it names {len(entries)} tensors; the limit is {MAX_TENSORS}")
    tensors = {name: _tensor(path, name, entry) for name, entry in entries.items()}
    _check_cover(path, tensors, size - 8 - len(raw))
    return Header(tensors, metadata)


def _refuse(path: Path, reason: str) -> NoReturn:
    raise BadCheckpoint(f"{path} is not a usable safetensors file: {reason}.")


def _raw_header(path: Path, head: bytes, size: int, file: Any, limit: int) -> bytes:
    for magic, kind in _FOREIGN:
        # A pickle's first byte may also be the first byte of a length: then `{` follows at byte 8.
        if head.startswith(magic) and head[8:9] != b"{":
            raise BadCheckpoint(f"{path} is {kind}; only safetensors files are loaded, since a pickle can run code.")
    if size < 10 or head[8:9] != b"{":
        _refuse(path, "it does not start with a header length and a JSON object")
    (length,) = struct.unpack("<Q", head[:8])
    if length > limit:
        _refuse(path, f"its header says it is {length} bytes long; the limit is {limit}")
    if length > size - 8:
        _refuse(path, f"its header says it is {length} bytes long, but the file has {size}: it is cut off")
    file.seek(8)
    raw: bytes = file.read(length)
    return raw


def _parse(path: Path, raw: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) != len(pairs):
            raise ValueError("it holds a name twice")
        return table

    def constant(text: str) -> NoReturn:
        raise ValueError(f"it holds {text}")

    try:
        parsed = json.loads(raw, object_pairs_hook=unique, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        _refuse(path, f"its header is not sound JSON: {str(error)[:120]}")
    if not isinstance(parsed, dict):
        _refuse(path, "its header is not a JSON object")
    return parsed


def _tensor(path: Path, name: str, entry: Any) -> Stored:
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        _refuse(path, f"tensor {name[:100]!r} lacks dtype, shape or data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        _refuse(path, f"tensor {name[:100]!r} has the unknown dtype {str(dtype)[:30]!r}")
    if not _naturals(shape) or not _naturals(offsets) or len(offsets) != 2:
        _refuse(path, f"tensor {name[:100]!r} has a shape or offsets that are not whole numbers")
    start, stop = offsets
    if stop - start != math.prod(shape) * DTYPE_BITS[dtype] // 8:
        _refuse(path, f"tensor {name[:100]!r} of {dtype} {shape} cannot lie at bytes {start} to {stop}")
    return Stored(dtype, tuple(shape), start, stop)


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value)


def _check_cover(path: Path, tensors: Mapping[str, Stored], data_bytes: int) -> None:
    """The tensors must cover the data exactly once: no hole, no overlap, nothing outside the file."""
    end = 0
    for name, stored in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].stop)):
        if stored.stop > data_bytes:
            _refuse(path, f"tensor {name[:100]!r} ends at byte {stored.stop} of {data_bytes}: it is cut off")
        if stored.start != end:
            _refuse(path, f"tensor {name[:100]!r} starts at byte {stored.start}, where {end} was due")
        end = stored.stop
    if end != data_bytes:
        _refuse(path, f"{data_bytes - end} bytes at its end belong to no tensor")


def read_json(path: Path, max_bytes: int = 16 * 1024**2) -> dict[str, Any]:
    """A JSON object from a file of at most `max_bytes`. Raises `BadCheckpoint`."""
    try:
        with path.open("rb") as file:
            raw = file.read(max_bytes + 1)
    except FileNotFoundError:
        raise BadCheckpoint(f"There is no file {path}.") from None
    except OSError as error:
        raise BadCheckpoint(f"{path} cannot be read: {error.strerror}.") from None
    if len(raw) > max_bytes:
        raise BadCheckpoint(f"{path} is longer than {max_bytes} bytes, too long for a configuration.")
    try:
        parsed = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BadCheckpoint(f"{path} is not sound JSON: {str(error)[:120]}.") from None
    if not isinstance(parsed, dict):
        raise BadCheckpoint(f"{path} does not hold a JSON object.")
    return parsed


def inside(folder: Path, name: str) -> Path:
    """The file `name` of a folder: a relative name that stays inside it, links followed. Raises `BadCheckpoint`.

    In a snapshot of the hub's cache the files are links to the blobs of the same repository; those are inside.
    """
    root = folder.resolve()
    target = (folder / name).resolve()
    roots = [root]
    for parent in (folder.absolute(), *folder.absolute().parents):
        if parent.parent.name == "snapshots":
            roots.append((parent.parent.parent / "blobs").resolve())
            break
    plain = bool(name) and not os.path.isabs(name) and ".." not in Path(name).parts and "\\" not in name
    if not plain or not any(target.is_relative_to(allowed) for allowed in roots):
        raise BadCheckpoint(f"{folder} names the file {name[:200]!r}, which lies outside the folder.")
    return target
