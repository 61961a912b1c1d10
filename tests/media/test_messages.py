"""Messages from a child that may send anything: each wrong one becomes one clear error, and the child is killed."""

import io
import json
import math
import struct
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.media.messages import ArrayForm, receive_answer, receive_request, send_message

FRAMES = ArrayForm("uint8", ((1, 16), (4, 4), (6, 6), (3, 3)))


class Sink(io.RawIOBase):
    """Collects what is written to it, at most 5 bytes at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.data = b""

    def write(self, data: Any, /) -> int:
        self.data += bytes(data[:5])
        return min(5, len(data))


def message(header: object, payload: bytes = b"") -> bytes:
    text = header if type(header) is bytes else json.dumps(header).encode()
    return struct.pack(">I", len(text)) + text + payload


@pytest.mark.parametrize("array", [None, np.arange(72, dtype=np.uint8).reshape(1, 4, 6, 3)])
def test_a_message_arrives_as_it_was_sent(array: NDArray[np.uint8] | None) -> None:
    sink = Sink()
    send_message(sink, {"word": "Käse"}, array)
    header, received = receive_answer(io.BytesIO(sink.data), FRAMES)
    assert header["word"] == "Käse"
    np.testing.assert_array_equal(received, array)


def test_a_request_arrives_as_it_was_sent() -> None:
    sink = Sink()
    send_message(sink, {"method": "next"})
    pipe = io.BytesIO(sink.data)
    assert receive_request(pipe) == {"method": "next"}
    assert receive_request(pipe) is None


WRONG = {
    "objects": message({"shape": [1, 4, 6, 3], "dtype": "O"}, bytes(72 * 8)),
    "an array too large": message({"shape": [1 << 44], "dtype": "uint8"}),
    "too many frames": message({"shape": [17, 4, 6, 3], "dtype": "uint8"}, bytes(17 * 72)),
    "frames of another size": message({"shape": [1, 6, 4, 3], "dtype": "uint8"}, bytes(72)),
    "no frame": message({"shape": [0, 4, 6, 3], "dtype": "uint8"}),
    "floats": message({"shape": [1, 4, 6, 3], "dtype": "float64"}, bytes(72 * 8)),
    "a type that does not exist": message({"shape": [1, 4, 6, 3], "dtype": "nonsense"}),
    "a type that is a list": message({"shape": [1, 4, 6, 3], "dtype": ["uint8"]}, bytes(72)),
    "no type": message({"shape": [1, 4, 6, 3]}, bytes(72)),
    "negative lengths": message({"shape": [-1, 4, -6, 3], "dtype": "uint8"}, bytes(72)),
    "lengths that are floats": message({"shape": [1.0, 4, 6, 3], "dtype": "uint8"}, bytes(72)),
    "lengths that are texts": message({"shape": ["1", 4, 6, 3], "dtype": "uint8"}, bytes(72)),
    "lengths that are booleans": message({"shape": [True, 4, 6, 3], "dtype": "uint8"}, bytes(72)),
    "too few axes": message({"shape": [72], "dtype": "uint8"}, bytes(72)),
    "too many axes": message({"shape": [1] * 1000, "dtype": "uint8"}, bytes(1)),
    "a shape that is a number": message({"shape": 72, "dtype": "uint8"}, bytes(72)),
    "a shape that is nothing": message({"shape": None, "dtype": "uint8"}, bytes(72)),
    "a list": message([1, 2]),
    "a number": message(3),
    "nested lists": message(b"[" * 30_000 + b"]" * 30_000),
    "nested objects": message(b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
    "a header too large": struct.pack(">I", 0xFFFF_FFFF),
    "an empty header": struct.pack(">I", 0),
    "no JSON": message(b"{'a': 1}"),
    "no UTF-8": message(b'{"a": "\xff"}'),
    "a number that is none": message({"a": math.nan}),
    "a number too long": message(b'{"a": ' + b"9" * 5000 + b"}"),
    "a number too large": message(b'{"a": 1e999}'),
    "an integer of 65 bits": message({"a": [1 << 64]}),
    "a negative integer of 65 bits": message({"a": -(1 << 64)}),
    "half a character": message({"a": "\ud800"}),
    "the character NUL": message({"a": "\0"}),
    "a command to a terminal": message({"a": {"b": ["\x1b[2J"]}}),
    "a name that turns the line around": message({"\u202e": 1}),
    "an infinite number": message({"a": [-math.inf]}),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_message_is_refused(name: str) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, RecursionError)):
        receive_answer(io.BytesIO(WRONG[name]), FRAMES)


@pytest.mark.parametrize(
    "part", [b"", b"\0", message({})[:-1], message({"shape": [1, 4, 6, 3], "dtype": "uint8"}, b"1")]
)
def test_a_message_that_breaks_off_is_the_end(part: bytes) -> None:
    with pytest.raises(EOFError):
        receive_answer(io.BytesIO(part), FRAMES)


def test_an_array_that_was_not_requested_is_refused() -> None:
    with pytest.raises(ValueError, match="not requested"):
        receive_answer(io.BytesIO(message({"shape": [1], "dtype": "uint8"}, b"1")), None)


def test_the_number_of_elements_is_limited() -> None:
    form = ArrayForm("uint8", ((1, 100), (1, 100)), most=100)
    form.check("uint8", [10, 10])
    with pytest.raises(ValueError, match=r"shape \[10, 11\]"):
        form.check("uint8", [10, 11])
