"""Reads untrusted checkpoint files: safetensors headers, JSON configurations, and file names inside a folder.

The `safetensors` package parses and validates headers. This module adds limits, and sentences that tell a user what is
wrong with a file. Only `read_tensors` reads tensor data and needs torch.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from safetensors import SafetensorError, safe_open

from longtake.errors import BadCheckpoint, machine_error

if TYPE_CHECKING:
    import torch

MAX_HEADER_BYTES = 100 * 1024**2
"""The longest header in bytes. The safetensors library has the same limit."""

MAX_TENSORS = 100_000
"""The largest number of tensors of one file. It limits the time and memory to read a hostile header."""

MAX_DIMENSIONS = 8
"""The largest number of dimensions of one tensor. The models' tensors have at most 5."""

MAX_NAME = 256
"""The largest number of characters of a tensor's name. Published names have at most 130."""

_SHOWN_NAME = 100
"""The largest number of characters of a tensor's name in a message."""

FLOATS = frozenset({"F8_E4M3", "F8_E5M2", "F16", "BF16", "F32", "F64"})
"""The dtypes that weights may have, as safetensors names them."""

_OTHER_FORMATS: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a zip archive, as torch.save writes (a pickle)"),
    (b"\x80", "a pickle"),
    (b"GGUF", "a GGUF file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself: fetch the real one"),
    (b"<", "a web page or XML, not weights"),
    (b"Rar!", "a RAR archive"),
    (b"\x1f\x8b", "a gzip archive"),
)
"""First bytes of files in other formats -> the name of the format, for messages."""

_REASONS: Mapping[str, str] = {
    "incomplete metadata, file not fully covered": (
        "its tensors do not cover its data: it is cut off, or bytes at its end belong to no tensor"
    ),
    "invalid shape, data type, or offset for tensor": "a tensor has another number of bytes than its dtype and shape",
    "invalid offset for tensor": "the bytes of its tensors overlap or leave a gap",
    "overflow computing buffer size": "a tensor is larger than any memory",
    "invalid JSON in header: recursion limit": "its header is nested too deep",
    "invalid JSON in header: unknown variant": "a tensor has a dtype that safetensors does not have",
    "invalid JSON in header: missing field": "a tensor lacks its dtype, its shape or its place in the data",
    "invalid JSON in header: invalid ": "its header has a value that safetensors does not allow there",
    "invalid JSON in header": "its header is not sound JSON",
}
"""Start of an error message of the safetensors library -> the same error in words for a user.

The first start that fits counts. The library's own message is not shown, because it repeats parts of the header.
"""

_PLACE = re.compile(r" at (line \d+ column \d+)$")
"""The place of the error, at the end of the safetensors library's message about malformed JSON in a header."""


@dataclass(frozen=True)
class TensorInfo:
    """The dtype, as safetensors names it, and the shape of one tensor."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Header:
    """The header of a valid safetensors file.

    tensors: the tensors by name, in the order of their data in the file.
    metadata: the file's own metadata, text by name; empty if it has none.
    """

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]


def read_header(
    path: Path,
    max_header_bytes: int = MAX_HEADER_BYTES,
    name: str | None = None,
    max_tensors: int = MAX_TENSORS,
) -> Header:
    """Returns the header of a safetensors file. The file's name does not matter.

    max_header_bytes: the longest header that is accepted.
    name: the file's name for messages; None means its path.
    max_tensors: the largest number of tensors that is accepted.

    If a name occurs twice in the header, the last entry counts, here and when the weights are loaded. Raises
    `BadCheckpoint` if the file cannot be read or is not a complete and well-formed safetensors file.
    """
    shown = name or str(path)
    try:
        file_bytes = _check_start(path, max_header_bytes, shown)
        with safe_open(path, framework="numpy") as file:
            names = file.offset_keys()
            if len(names) > max_tensors:
                _refuse(shown, f"it has {len(names)} tensors; the limit is {max_tensors}")
            tensors = {key: _tensor_info(shown, key, file.get_slice(key), file_bytes) for key in names}
            return Header(tensors, file.metadata() or {})
    except FileNotFoundError:
        raise BadCheckpoint(f"There is no checkpoint file {shown}.") from None
    except OSError as error:
        if machine_error(error) is not None:
            raise
        raise BadCheckpoint(f"{shown} cannot be read: {error.strerror or error}.") from None
    except SafetensorError as error:
        _refuse(shown, _reason(error))


def _refuse(shown: str, reason: str) -> NoReturn:
    raise BadCheckpoint(f"{shown} is not a usable safetensors file: {reason}.")


def shown_name(name: str) -> str:
    """Returns a tensor's or module's name for messages: its first 100 characters, with escapes for unprintable ones."""
    shown = name[:_SHOWN_NAME]
    return shown if shown.isprintable() else ascii(shown)[1:-1]


def _check_start(path: Path, max_header_bytes: int, shown: str) -> int:
    """Checks that a file begins like a safetensors file, and returns the size of the file in bytes.

    shown: the file's name for messages.
    Raises `BadCheckpoint` for a file in another format, and for a header that is longer than `max_header_bytes` or than
    the file.
    """
    # The file starts with 8 bytes, little-endian, that hold the header's length. Then comes the header, a JSON object,
    # whose first byte is `{`.
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(32)
    for magic, kind in _OTHER_FORMATS:
        # The length in a safetensors file may begin with the same bytes as another format, but `{` follows at byte 8.
        if start.startswith(magic) and start[8:9] != b"{":
            raise BadCheckpoint(f"{shown} is {kind}; only safetensors files are loaded.")
    if size < 10 or start[8:9] != b"{":
        _refuse(shown, "it does not start with a header length and a JSON object")
    length = int.from_bytes(start[:8], "little")
    if length > max_header_bytes:
        _refuse(shown, f"its header says it is {length} bytes long; the limit is {max_header_bytes}")
    if length > size - 8:
        _refuse(shown, f"its header says it is {length} bytes long, but the file has {size}: it is cut off")
    return size


def _tensor_info(shown: str, name: str, tensor: Any, file_bytes: int) -> TensorInfo:
    shape = tuple(tensor.get_shape())
    if len(name) > MAX_NAME:
        _refuse(shown, f"the name of a tensor has {len(name)} characters; the limit is {MAX_NAME}")
    if len(shape) > MAX_DIMENSIONS:
        _refuse(shown, f"the tensor {shown_name(name)} has {len(shape)} dimensions; the limit is {MAX_DIMENSIONS}")
    if max(shape, default=0) > 8 * file_bytes:  # possible beside a dimension of 0
        _refuse(shown, f"a dimension of the tensor {shown_name(name)} is larger than the number of the file's bits")
    return TensorInfo(tensor.get_dtype(), shape)


def _reason(error: SafetensorError) -> str:
    """Returns what is wrong with a file in words for a user, and in which place of its header if that is known.

    error: what the `safetensors` package has raised for the file.
    """
    text = str(error).removeprefix("Error while deserializing header: ")
    known = next((reason for start, reason in _REASONS.items() if text.startswith(start)), "its header is refused")
    place = _PLACE.search(text)
    return known if place is None else f"{known} ({place[1]})"


def read_json(path: Path, max_bytes: int = 16 * 1024**2) -> dict[str, Any]:
    """Returns the JSON object in a file.

    Raises `BadCheckpoint` if the file is missing, cannot be read, has more than `max_bytes` bytes, or does not hold a
    JSON object. Raises OSError if this machine is at fault.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(max_bytes + 1)
    except FileNotFoundError:
        raise BadCheckpoint(f"There is no file {path}.") from None
    except OSError as error:
        if machine_error(error) is not None:
            raise
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
    """Returns the path of the file `name` in a folder, with symbolic links resolved. The file need not exist.

    Raises `BadCheckpoint` if `name` is not a plain relative path, or if it leads out of the folder. Only in a snapshot
    folder of the Hugging Face hub's cache may a file be a link out of it: into the folder `blobs` of the same
    repository.
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


def read_tensors(places: Mapping[str, tuple[Path, str]]) -> "Iterator[tuple[str, torch.Tensor]]":
    """Yields (name, tensor) for each tensor, as its file has it, file after file.

    places: for each name the tensor's file and its name in that file. The headers were read before (`read_header`).
    """
    for file in sorted({file for file, _ in places.values()}):
        with safe_open(file, framework="pt") as opened:
            for name, (own, key) in places.items():
                if own == file:
                    yield name, opened.get_tensor(key)
