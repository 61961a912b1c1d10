"""The data of a request: what a client submits, its database row, its log lines and its outcome."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

State = Literal["IN_QUEUE", "IN_PROGRESS", "COMPLETED", "CANCELLED"]
ENDED: tuple[State, ...] = ("COMPLETED", "CANCELLED")
"""The states that a request never leaves."""

Priority = Literal["normal", "low"]
PRIORITIES: Mapping[Priority, int] = {"normal": 0, "low": 1}
"""Priority -> its number in the database. Requests with a smaller number are claimed first."""


@dataclass(frozen=True)
class Outcome:
    """The result of a request that succeeded or failed: its HTTP status, headers and JSON body.

    `body`: a value that can be written as JSON.
    `error`: a sentence for the user; None if the request succeeded.
    `error_type`: one of fal's error types; None if the request succeeded or the error has no type.
    `price_usd`: the price of the request in US dollars.
    `timings`: stage -> the seconds spent in it; "inference_time" -> the seconds of the whole request, without the stage
        "waiting".
    `body_blob`: the key of the blob with the body as JSON, if it is large (see `queue.payloads`). `body` is then None.
    """

    status_code: int
    body: Any
    error: str | None = None
    error_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    price_usd: Decimal = Decimal(0)
    timings: Mapping[str, float] = field(default_factory=dict)
    body_blob: str | None = None


FileKind = Literal["source", "end_image", "lora"]
"""The use of a file: the source video, the picture that the new frames lead to, or a LoRA."""


@dataclass(frozen=True)
class RemoteFile:
    """A file that a request names, and that is downloaded before the request is claimed for a device.

    `url`: an http(s) URL, or the address of a LoRA on the Hugging Face hub (see `models.lora_names.hub_url`).
    `field`: the path of the field with the URL in the request's input, such as ("video", "video_url").
    `kind`: what the file is for: "source" (the video to extend), "end_image" or "lora".
    `must_be_stored`: True if a machine that claimed the request did not have the file. The file is then stored as a
        blob, even if the machine that downloads it has it already.
    """

    url: str
    field: tuple[str | int, ...]
    kind: FileKind
    must_be_stored: bool = False


@dataclass(frozen=True)
class Lineage:
    """The place of a request in a tree of extensions, which is known if its source is a file of this server.

    `source`: the key of the source's stored file; None if the source is elsewhere, or in the request itself.
    `parent`: the id of the request that made this file; None if it is an upload, or the result of a request that the
        caller may not see.
    `root`: the id of the first request of the tree that the request belongs to. Each request in the tree, except the
        first one, extends the result of another one. None if `parent` is None.
    """

    source: str | None = None
    parent: str | None = None
    root: str | None = None


NO_LINEAGE = Lineage()
"""The `Lineage` (the source's file, and the earlier requests that made it) of a request whose source video is not a
stored file of this server."""

SEARCHED_CHARACTERS = 2000
"""Number of characters at the beginning of a prompt that can be found by a search for requests."""


def search_text(text: str) -> str:
    """Returns the first 2000 characters (SEARCHED_CHARACTERS) of a prompt or of a searched text, made comparable.

    Capital letters become small ones. NUL characters are removed, because PostgreSQL cannot store them.
    """
    beginning = text.replace("\0", "")[:SEARCHED_CHARACTERS]
    return beginning.casefold()[:SEARCHED_CHARACTERS]  # small letters can be more than the capital ones


@dataclass(frozen=True)
class Submission:
    """A request as a client submits it, before it has a row in the database.

    `endpoint`: the endpoint's id.
    `pool`: the name of the group of devices that carries out the request.
    `key_id`: the id of the caller's API key.
    `body`: the input as JSON.
    `base_url`: the URL of the server's service `queue` as the client reaches it, such as `http://host/queue`. URLs in
        responses are built from it.
    `priority`: requests with the priority "low" start after those with "normal".
    `start_timeout_s`: seconds after which the request ends if it was not started; None sets no limit.
    `webhook_url`: the URL to which the result is sent when the request ends, or None.
    `idempotency_key`: a text that the client chooses, or None. If the same API key submits a request with the same text
        again, no second request is stored.
    `store_io`: if False, input, result and log are deleted within an hour after the end (see `queue.erasure`). The
        result's file stays.
    `may_retry`: if False, the request is not tried again after its worker process or its server has died.
    `lifecycle`: the lifetime and access rules of the result's file (see `storage.lifecycle.parse`); None for defaults.
    `files`: the files that must be downloaded before a device is claimed.
    `body_blob`: the key of the blob with the input, if it is large (see `queue.payloads`). `body` is then empty.
    `search_text`: the prompt, shortened and in small letters. A search among past requests looks for its text here.
    `lineage`: the stored file that the request extends, and the request that made it.
    `outcome`: the error of an invalid request, which is stored as ended and never queued; None for a valid request.
    `id`: the id of the request.
    """

    endpoint: str
    pool: str
    key_id: str
    body: bytes
    base_url: str
    priority: Priority = "normal"
    start_timeout_s: float | None = None
    webhook_url: str | None = None
    idempotency_key: str | None = None
    store_io: bool = True
    may_retry: bool = True
    lifecycle: Mapping[str, Any] | None = None
    files: tuple[RemoteFile, ...] = ()
    body_blob: str | None = None
    search_text: str = ""
    lineage: Lineage = NO_LINEAGE
    outcome: Outcome | None = None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(frozen=True)
class LogLine:
    """One line of a request's log.

    `at`: the Unix time in seconds at which the line was written.
    `level`: INFO, or STDOUT for a line that a library printed.
    `labels`: empty, except in a line that says that a stage of the work begins. Such a line has three labels, each as
        text: `stage` (the stage's name), `window` (the number, from 1, of the group of frames that the model makes
        together) and `windows` (the number of all such groups).
    """

    at: float
    level: str
    message: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredLogLine(LogLine):
    """A line of a request's log as stored in the database. `seq` is its number; later lines have greater numbers."""

    seq: int = 0


@dataclass(frozen=True)
class RequestRow:
    """A row of the table `requests`. Fields that `Submission` and `Outcome` also have mean the same here.

    `seq`: the number of the request in the order of submission.
    `priority`: the number of the priority (see `PRIORITIES`). Requests with a smaller number are claimed first.
    `created_at`: the Unix time in seconds of the submission.
    `start_by`: the Unix time in seconds by which the request must be started; None for no limit.
    `ready`: False while the request waits for the download of its files, and cannot be claimed.
    `started_at`: the Unix time in seconds at which a server last claimed the request; None before the first claim.
    `completed_at`: the Unix time in seconds at which the request ended; None before its end.
    `cancel_at`: the Unix time in seconds at which a client cancelled the running request, otherwise None.
    `server`: the id of the server that works on the request or, after its end, worked on it last. None while the
        request waits, and if it ended while it waited.
    `attempt`: the number of attempts so far, including the current one. An attempt that ended because its server was
        stopped does not count.
    `version`: the number of changes of the row.
    `plan`: the JSON form of the plan, which says how the video is made, but without prompts; None before the plan is
        made and after its deletion.
    `progress`: what the worker process is doing: {message, stage, step, steps, window, windows}. A window is a group of
        frames that the model samples together. None before its first report.
    `output`: the JSON body of the result; None before the request's end, after the result's deletion, and if it is in a
        blob.
    `output_blob`: the key of the blob with the JSON body of a large result, otherwise None.
    `source`, `parent`, `root`: the key of the stored source file, the id of the request that made this file, and the id
        of the first request of the tree of extensions; None if there is none. After the deletion of the input, `source`
        is None.
    `search_text`: None after the deletion of the input, and if the row was read without its payloads.
    `erased_at`: the Unix time in seconds at which input, result, plan and log were deleted; None before that.
    """

    seq: int
    id: str
    endpoint: str
    pool: str
    state: State
    priority: int
    key_id: str
    idempotency_key: str | None
    body: bytes
    base_url: str
    webhook_url: str | None
    store_io: bool
    may_retry: bool
    lifecycle: dict[str, Any] | None
    created_at: float
    start_by: float | None
    ready: bool
    started_at: float | None
    completed_at: float | None
    cancel_at: float | None
    server: str | None
    attempt: int
    version: int
    plan: dict[str, Any] | None
    progress: dict[str, Any] | None
    status_code: int | None
    headers: dict[str, str] | None
    output: bytes | None
    error: str | None
    error_type: str | None
    timings: dict[str, float] | None
    price_usd: str
    erased_at: float | None
    body_blob: str | None
    output_blob: str | None
    source: str | None
    parent: str | None
    root: str | None
    search_text: str | None

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED


CANCELLED = Outcome(
    499,
    {"detail": "Request was cancelled", "error_type": "client_cancelled"},
    error="Request was cancelled",
    error_type="client_cancelled",
)
"""The outcome of every cancelled request."""
