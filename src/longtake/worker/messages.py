"""The messages between a server and its worker processes, and their form on the wire: one line of JSON each."""

import json
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Discriminator, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError


@dataclass(frozen=True)
class Run:
    """Server to worker: carry out this request.

    `body` is the request's input as JSON text, perhaps 100 MB long. `plan` is the JSON form of the plan that an
    earlier attempt stored, or None. The worker writes its files into `folder`.
    """

    request_id: str
    endpoint: str
    body: str
    plan: dict[str, Any] | None
    folder: Path
    type: Literal["run"] = "run"


@dataclass(frozen=True)
class Proceed:
    """Server to worker: the plan is stored, so the work may begin."""

    type: Literal["proceed"] = "proceed"


@dataclass(frozen=True)
class FileFound:
    """Server to worker: the key of the blob that `FileWanted` asked for. None if the URL names no stored file that the
    request's caller may read."""

    blob: str | None
    type: Literal["file_found"] = "file_found"


@dataclass(frozen=True)
class Cancel:
    """Server to worker: stop working on this request, if it is the current one."""

    request_id: str
    type: Literal["cancel"] = "cancel"


@dataclass(frozen=True)
class Ready:
    """Worker to server: the first model is loaded, requests may come."""

    type: Literal["ready"] = "ready"


@dataclass(frozen=True)
class ProgressReport:
    """Worker to server: one step of the work. `sentence` says the same as the other fields, for people.

    Steps count from 0, windows from 1.
    """

    sentence: str
    stage: str
    step: int
    steps: int
    window: int
    windows: int
    type: Literal["progress"] = "progress"


@dataclass(frozen=True)
class Planned:
    """Worker to server: the JSON form of the request's plan, which has to be stored. Answered by `Proceed`."""

    plan: dict[str, Any]
    type: Literal["planned"] = "planned"


@dataclass(frozen=True)
class FileWanted:
    """Worker to server: asks which stored file this URL names, if any. Answered by `FileFound`."""

    url: str
    type: Literal["file_wanted"] = "file_wanted"


@dataclass(frozen=True)
class Done:
    """Worker to server: the request is finished; its result is the file at `path`.

    `response` is the endpoint's answer with an empty URL of the video. `returns_data_uri` is True if the client wants
    the video inside the answer. `timings` maps the name of a stage to its seconds, and "inference_time" to their sum.
    `notes` are sentences for the user.
    """

    path: Path
    content_type: str
    response: dict[str, Any]
    billable_units: Decimal
    price_usd: Decimal
    returns_data_uri: bool
    timings: dict[str, float] = field(default_factory=dict)
    new_frames: int = 0
    evaluations: int = 0
    notes: tuple[str, ...] = ()
    type: Literal["done"] = "done"


@dataclass(frozen=True)
class Failed:
    """Worker to server: the request ended with an error, given as the HTTP status and JSON body of its result.

    `error` is a sentence for the user, `error_type` one of fal's error types.
    """

    status: int
    body: dict[str, Any]
    error: str
    error_type: str | None
    type: Literal["failed"] = "failed"


@dataclass(frozen=True)
class Printed:
    """A line that a library printed to the worker's standard output. Made by the server's end, never sent."""

    text: str


@dataclass(frozen=True)
class Died:
    """The worker process ended: `reason` is "exit status 1" or the name of a signal. Made by the server's end."""

    reason: str


@dataclass(frozen=True)
class Woken:
    """Another thread of the server asks a slot to look for work, or to notice that it has to stop."""


@dataclass(frozen=True)
class CancelRequested:
    """Another thread of the server asks a slot to stop working on this request, if it is the slot's current one."""

    request_id: str


ToWorker = Run | Proceed | FileFound | Cancel
ToServer = Ready | ProgressReport | Planned | FileWanted | Done | Failed
FromProcess = ToServer | Printed | Died
"""All that a slot receives from its worker process."""

_TO_WORKER: TypeAdapter[ToWorker] = TypeAdapter(Annotated[ToWorker, Discriminator("type")])
_TO_SERVER: TypeAdapter[ToServer] = TypeAdapter(Annotated[ToServer, Discriminator("type")])

MessageT = TypeVar("MessageT")


def encode_to_worker(message: ToWorker) -> bytes:
    """Returns the message as one line of JSON with its newline."""
    return _encode(_TO_WORKER, message)


def encode_to_server(message: ToServer) -> bytes:
    """Returns the message as one line of JSON with its newline."""
    return _encode(_TO_SERVER, message)


def _encode(adapter: TypeAdapter[MessageT], message: MessageT) -> bytes:
    # pydantic's own serializer takes half the time of the json module: 0.6 s instead of 1.3 s for a body of 100 MB.
    try:
        return adapter.dump_json(message) + b"\n"
    except PydanticSerializationError:
        # The text of a library's error can hold lone surrogates, which UTF-8 has no bytes for. They become "?".
        document = adapter.dump_python(message, mode="json")
        return json.dumps(document, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def decode_to_worker(line: bytes) -> ToWorker:
    """Returns the message of one line. Raises pydantic's ValidationError if the line is not a message."""
    return _TO_WORKER.validate_json(line)


def decode_to_server(line: bytes) -> ToServer | Printed:
    """Returns the message of one line, or the line's text as `Printed` if it is not a message."""
    try:
        return _TO_SERVER.validate_json(line)
    except ValidationError:
        return Printed(line.decode(errors="replace").rstrip())
