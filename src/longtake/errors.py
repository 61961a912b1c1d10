"""Error classes. Each error has a sentence for the user, an HTTP status, an exit status of the command line, and the
name of its kind in the HTTP API of fal, which longtake's own HTTP API follows."""

import errno
import json
import math
import signal
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from longtake.printable import printable

TEMPORARY = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOBUFS, errno.EADDRNOTAVAIL),
)
"""Codes of operating system errors for which this machine is at fault, and which pass or which an operator can fix:
no disk space, a read-only or failing disk, too many open files, processes or threads, no memory, or no free port for a
connection."""

Loc = tuple[str | int, ...]
"""Path of a field in a request, in pydantic's form, such as ("body", "video", "strength")."""


MOST_ECHOED = 1000
"""The largest number of characters of a wrong text value that an error repeats."""
MOST_ECHOED_IN_ALL = 10_000
"""The largest number of characters of a wrong list or object, as JSON, that an entry of `detail` repeats."""


def entry(
    loc: Sequence[str | int], msg: str, type: str, input: Any, ctx: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Returns one entry of the list `detail` in an error response of fal's HTTP API.

    The entry is {loc, msg, type, url, input}, and `ctx` if it is not empty.

    loc: path of the wrong field, with the part of the HTTP request first, such as ("body", "fps").
    msg: a sentence for the user.
    type: fal's or pydantic's name of this kind of error. The entry's `url` is fal's page on it.
    input: the wrong value.
    ctx: facts for clients, such as limits.

    Entries are stored, so texts are cut after 1000 characters, and lists and objects after 50 items (see `echo`). An
    input that is then still longer than 10,000 characters as JSON (MOST_ECHOED_IN_ALL) becomes `...`.
    """
    echoed = echo(input)
    if len(json.dumps(echoed, ensure_ascii=False)) > MOST_ECHOED_IN_ALL:
        echoed = "..."
    made = {
        "loc": echo(list(loc)),
        "msg": printable(echo(msg)),
        "type": type,
        "url": f"https://docs.fal.ai/errors#{type}",
        "input": echoed,
    }
    return made | ({"ctx": {name: echo(value) for name, value in ctx.items()}} if ctx else {})


def echo(value: Any, depth: int = 4) -> Any:
    """Returns a client's value in a form that is short and that JSON can represent. An error can then repeat it.

    - NaN, infinite numbers, integers beyond +-2**63 and values that are not of a JSON type become text.
    - In a text, invalid Unicode is replaced, and everything after the first 1000 characters becomes `...`.
    - A list or object keeps its first 50 items.
    - A list or object that is nested in `depth` other lists or objects becomes the text `...`.
    """
    match value:
        case None | bool():
            return value
        case int():
            return value if abs(value) < 2**63 else f"an integer of {value.bit_length()} bits"
        case float():
            return value if math.isfinite(value) else str(value)
        case str():
            text = value.encode("utf-8", "replace").decode()
            return text if len(text) <= MOST_ECHOED else f"{text[:MOST_ECHOED]}..."
        case Mapping() | list() | tuple() if depth == 0:
            return "..."
        case Mapping():
            return {str(echo(str(name))): echo(part, depth - 1) for name, part in islice(value.items(), 50)}
        case list() | tuple():
            return [echo(part, depth - 1) for part in value[:50]]
        case _:
            return echo(str(value))


class LongtakeError(Exception):
    """The base class of all errors that are reported to users.

    message: one sentence about what is wrong, with which value, and what would be right. Unprintable characters in it
        become escapes (see `printable`).
    loc: path of the wrong field; empty if the error is about no single field.
    value: the wrong value; None if there is none.
    ctx: facts for clients, such as limits and supported values.
    type: the name that fal's HTTP API has for this kind of error.
    status: HTTP status of the response.
    exit_code: exit status of the command line.
    """

    type: ClassVar[str] = "internal_server_error"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, loc: Loc = (), value: Any = None, ctx: Mapping[str, Any] | None = None) -> None:
        self.message = printable(message)
        super().__init__(self.message)
        self.loc = loc
        self.value = value
        self.ctx = dict(ctx or {})

    def detail(self) -> dict[str, Any]:
        """Returns the error as one entry of the list `detail` in an error response of fal's HTTP API.

        It has this error's location, message, type, value and facts, in which long texts and lists are shortened.
        """
        return entry(self.loc or ("body",), self.message, self.type, self.value, self.ctx)

    def body(self) -> dict[str, Any]:
        """Returns the JSON body of the HTTP response: {detail: [entry]}, with the entry of `detail()`."""
        return {"detail": [self.detail()]}


class InvalidRequest(LongtakeError):
    """The request has a value that cannot be used."""

    type = "value_error"
    status = 422
    exit_code = 2


class NotSupported(InvalidRequest):
    """The request needs a feature or model that this installation does not have."""

    type = "feature_not_supported"


class FolderNotMade(InvalidRequest):
    """A folder that a setting names could not be created.

    The message names the setting but not the path, because clients of a server may read it.

    setting: the setting's environment variable.
    folder: path of the folder; None if there is no path, because the user has no home folder.
    reason: why the folder could not be created, as part of a sentence.
    """

    def __init__(self, setting: str, folder: Path | None, reason: str) -> None:
        super().__init__(
            f"The folder of the setting {setting} cannot be created: {reason}. "
            f"Set {setting} to a folder that can be written."
        )
        self.setting = setting
        self.folder = folder
        self.reason = reason


class DownloadFailed(InvalidRequest):
    """A file that the request names could not be downloaded."""

    type = "file_download_error"


class ModelDownloadFailed(DownloadFailed):
    """A file of a model could not be downloaded. The command line ends with status 1, not 2 as for bad requests."""

    exit_code = 1


class FileTooLarge(InvalidRequest):
    """A file has more bytes than allowed."""

    type = "file_too_large"


class UnsupportedVideo(InvalidRequest):
    """A file is not a readable video: another kind of file, damaged, or hostile."""

    type = "unsupported_video_format"


class UnsupportedImage(InvalidRequest):
    """A file is not a readable picture."""

    type = "unsupported_image_format"


class VideoTooLong(InvalidRequest):
    """A source video is longer than allowed."""

    type = "video_duration_too_long"


class VideoTooLarge(InvalidRequest):
    """The frames of a source video, or a picture, have more pixels than allowed."""

    type = "image_too_large"


class ContentPolicyViolation(InvalidRequest):
    """The safety checker flagged a generated frame as unsafe."""

    type = "content_policy_violation"

    def __init__(self) -> None:
        super().__init__(
            "The content could not be processed because it contained material flagged by a content checker.",
            loc=("body", "prompt"),
        )


class BadCheckpoint(LongtakeError):
    """A model or adapter file is missing, malformed, or does not fit the model."""

    exit_code = 3


class ModelNotInstalled(BadCheckpoint):
    """The model that the request needs is not on this machine, and no small model of the package may stand in for it.

    The setting `stand_in` decides whether one may.
    """

    type = "runner_scheduling_failure"
    status = 503

    def body(self) -> dict[str, Any]:
        """Returns the JSON body of the HTTP response: {detail: the message, error_type: the `type` of this error}.

        fal's clients expect this form for errors of the server, and a list only for errors of the request.
        """
        return {"detail": echo(self.message), "error_type": self.type}


class ExpansionFailed(LongtakeError):
    """The server that expands prompts failed or sent an unusable answer."""

    type = "downstream_service_error"
    status = 400


class DiskFull(LongtakeError):
    """A file could not be written because the disk is full."""

    status = 507


class MemoryRanOut(LongtakeError):
    """The memory of the device or of the host is too small for a request, also with the smallest batches and tiles."""


class FileLost(LongtakeError):
    """The bytes of a stored file, input or result are missing or damaged. The server's log says of which one."""


class DecoderFailed(LongtakeError):
    """The process that decodes files failed, but not because of the file. A new process then tries once more."""


OUT_OF_MEMORY = (
    "CUDA error: out of memory",
    "CUDA out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "DEVICE_ALLOCATION_FAILED",
    "can't allocate memory",
)
"""Words in messages of torch's other errors when memory runs out: while memory is pinned, in NVIDIA's libraries, while
code is compiled, and in host memory."""


def is_out_of_memory(error: Exception) -> bool:
    """Returns True if the error says that the host's or the device's memory ran out.

    Torch's error is recognised by its name, so that torch need not be imported.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)


def machine_error(error: BaseException | None) -> OSError | None:
    """Returns the operating system's error that led to `error`, if this machine is at fault; otherwise None.

    This machine is at fault for the codes in TEMPORARY, for example because its disk is full. The result may be `error`
    itself, or one of the errors that Python shows as its causes.
    """
    seen: set[int] = set()  # an error that is raised again can be among its own causes
    while error is not None and id(error) not in seen:
        if isinstance(error, OSError) and error.errno in TEMPORARY:
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def os_reason(error: OSError) -> str:
    """Returns why an operation on a file or folder failed, as part of a sentence. It does not name the file."""
    return _REASONS.get(error.errno or 0) or error.strerror or type(error).__name__


_REASONS: Mapping[int, str] = {
    errno.EEXIST: "there is already a file or folder of that name",
    errno.ENOTDIR: "a part of this path is a file, where a folder is needed",
    errno.EISDIR: "it is a folder, where a file is needed",
}
"""Code of an operating system error -> what it means for the user, where the system's own words do not say it."""


class Cancelled(LongtakeError):
    """The caller cancelled the request."""

    type = "client_cancelled"
    status = 499
    exit_code = 130

    def __init__(self, message: str = "The request was cancelled.") -> None:
        super().__init__(message)


class StoppedBySignal(Cancelled):
    """A signal stopped a command of the command line.

    number: the number of the signal, such as signal.SIGTERM.
    """

    def __init__(self, number: int) -> None:
        name = signal.Signals(number).name
        super().__init__(f"{'Ctrl-C (SIGINT)' if number == signal.SIGINT else name} stopped the command.")
