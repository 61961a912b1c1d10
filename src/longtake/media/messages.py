"""The messages between this process and a child process that decodes an untrusted file. The child may send anything.

A message begins with the length of its header in bytes (4 bytes, big endian), followed by the header, a JSON object. If
the header has the fields `shape` and `dtype`, the bytes of an array follow.
"""

import json
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from longtake.errors import LongtakeError, UnsupportedVideo

_MAX_HEADER_BYTES = 1 << 16
_LENGTH = struct.Struct(">I")
_LARGEST_INTEGER = 1 << 64

Answer = tuple[dict[str, Any], NDArray[Any] | None]
"""A reply of the child process: (header, array). The header is a JSON object; the array is None if there is none."""


class Pipe(Protocol):
    """An unbuffered byte stream. `write` may write only a part of the data, and returns how many bytes it wrote."""

    def write(self, data: bytes | memoryview, /) -> int | None: ...


@dataclass(frozen=True)
class ArrayForm:
    """The type and the shape that the array in a reply must have.

    dtype: name of the type of its elements, such as uint8.
    lengths: (smallest, largest) length of each axis.
    most: largest number of elements of the whole array; None if only `lengths` limits it.
    """

    dtype: str
    lengths: tuple[tuple[int, int], ...]
    most: int | None = None

    def check(self, dtype: Any, shape: Any) -> None:
        """Raises ValueError or TypeError if an array of the type `dtype` and the shape `shape` does not have this form.

        Both arguments come from a message's header and may be any JSON value.
        """
        fits = [low <= length <= high for length, (low, high) in zip(shape, self.lengths, strict=True)]
        whole = all(type(length) is int for length in shape)
        if dtype != self.dtype or not all(fits) or not whole or np.prod(shape, dtype=float) > (self.most or np.inf):
            raise ValueError(f"an array of the type {dtype} and the shape {shape}")


def send_message(pipe: Pipe, header: dict[str, Any], payload: NDArray[Any] | None = None) -> None:
    """Writes one message to the pipe.

    header: a JSON object.
    payload: the array of the message, whose shape and dtype are added to the header; None for no array.
    """
    if payload is not None:
        header = header | {"shape": payload.shape, "dtype": str(payload.dtype)}
    text = json.dumps(header).encode()
    parts = [memoryview(_LENGTH.pack(len(text)) + text)]
    if payload is not None and payload.size:
        parts.append(np.ascontiguousarray(payload).reshape(-1).view(np.uint8).data)
    for part in parts:
        while part:
            part = part[pipe.write(part) or 0 :]


def receive_request(pipe: BinaryIO) -> dict[str, Any] | None:
    """Reads the parent process's next request, a JSON object. Returns None if the parent has closed the pipe."""
    length = pipe.read(_LENGTH.size)
    if len(length) < _LENGTH.size:
        return None
    request: dict[str, Any] = json.loads(pipe.read(*_LENGTH.unpack(length)))
    return request


def receive_answer(pipe: IO[bytes], form: ArrayForm | None) -> Answer:
    """Reads one message of the child and returns (header, array). The array is None if the message has none.

    form: the form of the array that the message may have; None if it may have none.

    Raises EOFError if the pipe ends, and ValueError, TypeError, KeyError or RecursionError for a malformed message.
    """
    (length,) = _LENGTH.unpack(_read(pipe, np.empty(_LENGTH.size, np.uint8)).tobytes())
    if length > _MAX_HEADER_BYTES:
        raise ValueError(f"a header of {length} bytes")
    text = _read(pipe, np.empty(length, np.uint8)).tobytes()
    header = json.loads(text, parse_constant=_refuse, parse_float=_float, parse_int=_integer)
    if type(header) is not dict:
        raise TypeError(f"a header of the type {type(header).__name__}")
    if not all(text.isprintable() for text in _texts(header)):
        raise ValueError("a header with control characters or halves of characters")
    if "shape" not in header:
        return header, None
    if form is None:
        raise ValueError("an array that was not requested")
    form.check(header["dtype"], header["shape"])
    payload: NDArray[Any] = np.empty(header["shape"], header["dtype"])
    _read(pipe, payload.reshape(-1).view(np.uint8))
    return header, payload


def printable(text: str) -> str:
    """Returns the text with a blank in place of each control character and each lone surrogate (half a character)."""
    return "".join(character if character.isprintable() else " " for character in text)


def _texts(value: Any) -> Iterator[str]:
    """Yields all strings in a JSON value, also the keys of objects."""
    match value:
        case str():
            yield value
        case list():
            for item in value:
                yield from _texts(item)
        case dict():
            for name, item in value.items():
                yield name
                yield from _texts(item)


def _refuse(name: str) -> float:
    raise ValueError(f"{name} in place of a number")


def _float(text: str) -> float:
    """Returns the number that a JSON text has. Raises ValueError if it is too large for a float, such as 1e999."""
    return number if math.isfinite(number := float(text)) else _refuse(text)


def _integer(text: str) -> int:
    """Returns the integer that a JSON text has. Raises ValueError if it has more than 64 bits: databases and clients
    do not know such numbers."""
    number = int(text)
    if abs(number) >= _LARGEST_INTEGER:
        raise ValueError("an integer of more than 64 bits")
    return number


def _read(pipe: IO[bytes], buffer: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Fills `buffer` with bytes of the pipe and returns it. Raises EOFError if the pipe ends."""
    view = buffer.data
    while view:
        count = pipe.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        view = view[count:]
    return buffer


def send_error(pipe: Pipe, error: Exception) -> None:
    """Sends an error to the parent process as the reply. An error that is no LongtakeError becomes UnsupportedVideo."""
    if isinstance(error, LongtakeError):
        send_message(pipe, {"error": type(error).__name__, "message": printable(error.message), "ctx": error.ctx})
        return
    reason = f"The video could not be read ({type(error).__name__}: {error})."
    if isinstance(error, MemoryError):
        reason = "Reading the video needs more memory than is allowed."
    send_message(pipe, {"error": UnsupportedVideo.__name__, "message": printable(reason)})
