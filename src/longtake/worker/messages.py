"""The messages between a server and its worker processes, and their form on the wire: one line of JSON each.

A worker process may have two requests at a time. So each message about a request has the request's id as `request_id`.
The channel to the other process sets it. It is None in a message about no request, such as the progress of loading the
first model.
"""

import json
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Discriminator, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from longtake.errors import LongtakeError, echo
from longtake.turn import TurnState


@dataclass(frozen=True)
class Run:
    """Server to worker: carry out this request.

    `endpoint`: the endpoint's id.
    `body`: the request's input as JSON text. Empty if it is in a blob.
    `body_blob`: the key of the blob with a large input, otherwise None.
    `plan`: the JSON form of the plan that an earlier attempt stored; None if no attempt has stored one.
    `folder`: the request's work folder, in which the worker process writes its files.
    `caller`: the id of the API key that sent the request.
    `is_labelled`: True if the endpoint and the input are written into the result's file, as its comment. False if the
        client does not let the server store the input.
    """

    request_id: str
    endpoint: str
    body: str
    plan: dict[str, Any] | None
    folder: Path
    caller: str
    body_blob: str | None = None
    is_labelled: bool = True
    type: Literal["run"] = "run"


@dataclass(frozen=True)
class Proceed:
    """Server to worker: the plan is stored, so the work may begin."""

    request_id: str | None = None
    type: Literal["proceed"] = "proceed"


@dataclass(frozen=True)
class FileFound:
    """Server to worker: the reply to `FileWanted`.

    `blob`: the key of the blob with the file's bytes; None if the server has no such file, or the request's caller may
        not read it.
    `is_own`: True if the URL is that of an upload to this server, or of a result. If `blob` is then None, the file is
        no longer stored, or the caller may not read it.
    `is_fetched`: True if `blob` is a file that the server has downloaded for the request.
    `hub_name`: for a LoRA of the hub (Hugging Face), its path in the machine's folder for LoRAs of the hub. If the file
        is not there, its bytes are in `blob`. None for other files.

    If none of these fields is set (`blob` and `hub_name` are None and `is_own` is False), the server has no such file,
    and the worker must download it.
    """

    blob: str | None
    is_own: bool = False
    is_fetched: bool = False
    hub_name: str | None = None
    request_id: str | None = None
    type: Literal["file_found"] = "file_found"


@dataclass(frozen=True)
class Cancel:
    """Server to worker: stop working on this request, if it is the current one."""

    request_id: str
    type: Literal["cancel"] = "cancel"


@dataclass(frozen=True)
class Watched:
    """Server to worker: a client asks for previews of this request, so send previews of its new frames for some
    seconds.

    Has no effect if it is not the current request.
    """

    request_id: str
    type: Literal["watched"] = "watched"


@dataclass(frozen=True)
class Ready:
    """Worker to server: the first model is loaded and prepared, or could not be loaded. Requests may be sent."""

    type: Literal["ready"] = "ready"


@dataclass(frozen=True)
class Unusable:
    """Worker to server: no worker process can work on this machine, because its libraries cannot be imported.

    `reason`: a sentence for the user.
    """

    reason: str
    type: Literal["unusable"] = "unusable"


@dataclass(frozen=True)
class ProgressReport:
    """Worker to server: one step of the work begins.

    `sentence`: text for people that names the stage and, if one of several windows is sampled, the window.
    `stage`: the name of the stage of the work, such as "load" or "sampling" (a key of `video.STAGES`).
    `step`, `steps`: the number of finished steps of the stage, and the number of all its steps.
    `window`, `windows`: the number of the current window, from 1, and the number of all windows. A window is a group of
        frames that are sampled together.
    `pass_number`, `passes`: the number of the current pass (run through the sampling steps) over the window, from 1,
        and the number of all.
    """

    sentence: str
    stage: str
    step: int
    steps: int
    window: int
    windows: int
    pass_number: int = 1
    passes: int = 1
    request_id: str | None = None
    type: Literal["progress"] = "progress"


@dataclass(frozen=True)
class DeviceUse:
    """Worker to server: the request's use of the device has a new state. It is sent only by a worker process that can
    have two requests at a time.

    `state`: see `TurnState`. From "soon free" on, the server may send another request.
    """

    state: TurnState
    request_id: str | None = None
    type: Literal["device_use"] = "device_use"


@dataclass(frozen=True)
class Previewed:
    """Worker to server: a preview of the new frames that are being sampled.

    `picture`: an animated WebP.
    `step`, `steps`: the number of finished steps of the current pass (run through the sampling steps), and the number
        of all its steps.
    `window`, `windows`: the number of the current window, from 1, and the number of all windows. A window is a group of
        frames that are sampled together.
    """

    __pydantic_config__ = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    picture: bytes
    step: int
    steps: int
    window: int
    windows: int
    request_id: str | None = None
    type: Literal["previewed"] = "previewed"


@dataclass(frozen=True)
class Planned:
    """Worker to server: store the request's plan. The server answers with `Proceed`.

    `plan`: the JSON form of the plan, which says how the video is made, but without prompts.
    `lines`: sentences for the request's log: which model makes the video, and the notes of the plan.
    """

    plan: dict[str, Any]
    lines: tuple[str, ...] = ()
    request_id: str | None = None
    type: Literal["planned"] = "planned"


@dataclass(frozen=True)
class FileWanted:
    """Worker to server: a question whether this URL names one of the server's stored files. The server answers with
    `FileFound`."""

    url: str
    request_id: str | None = None
    type: Literal["file_wanted"] = "file_wanted"


@dataclass(frozen=True)
class Done:
    """Worker to server: the request is finished, and its result is the video file at `path`.

    `content_type`: the MIME type of the file.
    `response`: the endpoint's JSON response, with an empty string as the URL of the video.
    `billable_units`: the number of units to bill. The endpoint's price list defines the unit.
    `price_usd`: the price of the request in US dollars.
    `returns_data_uri`: True if the client wants the video inside the response.
    `model`: the name of the model that made the new frames.
    `timings`: stage -> the seconds spent in it; "inference_time" -> the seconds of the whole request, without those for
        which it waited until another request no longer used the device (the stage "waiting").
    `new_frames`: the number of generated frames.
    `evaluations`: how many times the model was evaluated.
    `notes`: sentences for the user about what differs from the request.
    `stand_in`: a sentence that says which other model `model` replaces; None if `model` is the one that the endpoint
        names.
    """

    path: Path
    content_type: str
    response: dict[str, Any]
    billable_units: Decimal
    price_usd: Decimal
    returns_data_uri: bool
    model: str
    timings: dict[str, float] = field(default_factory=dict)
    new_frames: int = 0
    evaluations: int = 0
    notes: tuple[str, ...] = ()
    stand_in: str | None = None
    request_id: str | None = None
    type: Literal["done"] = "done"


@dataclass(frozen=True)
class Failed:
    """Worker to server: the current request ended with an error, or the first model could not be loaded.

    `status`, `body`: the HTTP status and the JSON body of the request's result.
    `error`: a sentence for the user.
    `error_type`: one of fal's error types, or None.
    """

    status: int
    body: dict[str, Any]
    error: str
    error_type: str | None
    request_id: str | None = None
    type: Literal["failed"] = "failed"

    @classmethod
    def of(cls, error: LongtakeError) -> "Failed":
        """Returns the message for an error. Long texts in it are shortened (see `errors.echo`), because they are
        stored."""
        return cls(error.status, error.body(), echo(error.message), error.type)


@dataclass(frozen=True)
class MachineFailed:
    """Worker to server: this machine failed, for example because its disk is full. The request is not at fault.

    `reason`: what the operating system says, such as "No space left on device".
    """

    reason: str
    request_id: str | None = None
    type: Literal["machine_failed"] = "machine_failed"


@dataclass(frozen=True)
class Printed:
    """A line of text from the worker process's output that is not a message. The server creates this object."""

    text: str


@dataclass(frozen=True)
class Died:
    """The worker process has ended.

    `reason` is, for example, "exit status 1" or "SIGKILL". The server creates this object.
    """

    reason: str


@dataclass(frozen=True)
class Woken:
    """Sent to the thread of a slot (a device with its worker process), or to an attempt, by another thread of the
    server. It ends the wait, so that the slot looks for a waiting request, or that both notice that they must stop."""


@dataclass(frozen=True)
class CancelRequested:
    """Sent to an attempt by another thread of the server: it must stop its work, because a client has cancelled the
    request."""


@dataclass(frozen=True)
class Interrupted:
    """Sent to an attempt: its worker process was killed because of another request."""


ToWorker = Run | Proceed | FileFound | Cancel | Watched
OfRequest = ProgressReport | DeviceUse | Previewed | Planned | FileWanted | Done | Failed | MachineFailed
"""A message of the worker process that can be about a request."""

ToServer = Ready | Unusable | OfRequest
FromProcess = ToServer | Printed | Died
"""A message about a worker process: one that the process has sent, or one that the server has created itself.

The server creates `Printed` for a line of output that is not a message, and `Died` when the process has ended.
"""

_TO_WORKER: TypeAdapter[ToWorker] = TypeAdapter(Annotated[ToWorker, Discriminator("type")])
_TO_SERVER: TypeAdapter[ToServer] = TypeAdapter(Annotated[ToServer, Discriminator("type")])

MessageT = TypeVar("MessageT")


def encode_to_worker(message: ToWorker) -> bytes:
    """Returns a message for the worker process as one line of JSON in UTF-8, with a newline at the end."""
    return _encode(_TO_WORKER, message)


def encode_to_server(message: ToServer) -> bytes:
    """Returns a message for the server as one line of JSON in UTF-8, with a newline at the end."""
    return _encode(_TO_SERVER, message)


def _encode(adapter: TypeAdapter[MessageT], message: MessageT) -> bytes:
    # Pydantic's own serializer takes half the time of the json module: 0.6 s instead of 1.3 s for a body of 100 MB.
    try:
        return adapter.dump_json(message) + b"\n"
    except PydanticSerializationError:
        # The text of a library's error can contain lone surrogates, which UTF-8 cannot encode. They become "?".
        document = adapter.dump_python(message, mode="json")
        return json.dumps(document, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def decode_to_worker(line: bytes) -> ToWorker:
    """Converts a line of JSON to a message for the worker process.

    Raises pydantic's ValidationError if the line is not such a message.
    """
    return _TO_WORKER.validate_json(line)


def decode_to_server(line: bytes) -> ToServer | Printed:
    """Converts a line of JSON to a message for the server.

    If the line is not such a message, returns `Printed` with the line's text.
    """
    try:
        return _TO_SERVER.validate_json(line)
    except ValidationError:
        return Printed(line.decode(errors="replace").rstrip())
