from decimal import Decimal
from pathlib import Path

import pytest

from longtake.errors import InvalidRequest, LongtakeError, ModelNotInstalled
from longtake.worker.messages import (
    Cancel,
    DeviceUse,
    Done,
    Failed,
    FileFound,
    FileWanted,
    Planned,
    Previewed,
    Printed,
    Proceed,
    ProgressReport,
    Ready,
    Run,
    ToServer,
    ToWorker,
    Unusable,
    Watched,
    decode_to_server,
    decode_to_worker,
    encode_to_server,
    encode_to_worker,
)

BODY = '{"prompt": "a \\"quoted\\" word,\\nand \\ud83d\\ude00"}'


@pytest.mark.parametrize(
    "message",
    [
        Run("r", "fal-ai/some/endpoint", BODY, {"seed": 3}, Path("/data/work/r"), "key"),
        Run("r", "fal-ai/some/endpoint", "{}", None, Path("/data/work/r"), "key"),
        Proceed(),
        Proceed("r"),
        FileFound("1b2c-a.mp4"),
        FileFound(None),
        FileFound("fetched/1.2", is_fetched=True, hub_name="a--b/1/c.safetensors"),
        Cancel("r"),
        Watched("r"),
    ],
)
def test_messages_to_the_worker_survive_the_wire(message: ToWorker) -> None:
    line = encode_to_worker(message)
    assert line.count(b"\n") == 1
    assert decode_to_worker(line) == message


@pytest.mark.parametrize(
    "message",
    [
        Ready(),
        Unusable("torch cannot be imported."),
        ProgressReport("Sampling, step 1 of 4", "sampling", 0, 4, 1, 1),
        Planned({"seed": 3, "rate": "24/1"}),
        Planned({}, request_id="r"),
        DeviceUse("soon free", "r"),
        FileWanted("http://localhost/cdn/files/a.mp4"),
        Previewed(b"RIFF\0\xff", 3, 8, 1, 2, "r"),
        Done(
            Path("/r"), "video/mp4", {"seed": 3}, Decimal(1), Decimal(2), True, "ltxv-tiny", {"load": 1}, 9, 3, ("a",)
        ),
        Failed(422, {"detail": []}, "It is wrong.", None),
    ],
)  # fmt: skip
def test_messages_to_the_server_survive_the_wire(message: ToServer) -> None:
    line = encode_to_server(message)
    assert line.count(b"\n") == 1
    assert decode_to_server(line) == message


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"a library speaks\n", "a library speaks"),
        (b'{"type": "unknown"}\n', '{"type": "unknown"}'),
        (b'{"type": "failed"}\n', '{"type": "failed"}'),
        (b"7\n", "7"),
        (b"not UTF-8: \xff\n", "not UTF-8: \ufffd"),
    ],
)
def test_a_line_that_is_no_message_was_printed_by_a_library(line: bytes, text: str) -> None:
    assert decode_to_server(line) == Printed(text)


@pytest.mark.parametrize("kind", [InvalidRequest, ModelNotInstalled])
def test_an_error_is_sent_and_stored_only_in_part(kind: type[LongtakeError]) -> None:
    long = "a/" * 3_000_000
    failed = Failed.of(kind(f"There is no {long}.", loc=("body", long), value=[long] * 9, ctx={"files": [long]}))
    assert failed.error == f"There is no {long}"[:1000] + "..."
    assert len(encode_to_server(failed)) < 20_000


def test_text_that_utf_8_cannot_hold_is_mended() -> None:
    line = encode_to_server(Failed(500, {"detail": "half a \ud83d character"}, "half a \ud83d character", None))
    assert decode_to_server(line) == Failed(500, {"detail": "half a ? character"}, "half a ? character", None)
