"""Errors with a sentence for the user, fal's error type, an HTTP status and an exit code."""

from collections.abc import Mapping
from typing import Any, ClassVar

Loc = tuple[str | int, ...]
"""Path of a field in a request, as pydantic reports it: ("body", "video", "strength")."""


class LongtakeError(Exception):
    """An error whose message is one sentence for the user: what is wrong, with which value, and what would be right.

    `loc` is the path of the offending field, or empty. `value` is the offending value. `ctx` holds facts for clients,
    such as limits and supported values. `type` and `status` are fal's error type and the HTTP status.
    """

    type: ClassVar[str] = "internal_server_error"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, loc: Loc = (), value: Any = None, ctx: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.loc = loc
        self.value = value
        self.ctx = dict(ctx or {})

    def detail(self) -> dict[str, Any]:
        """Returns the error as an entry of fal's `detail` list: {loc, msg, type, url, input[, ctx]}."""
        entry: dict[str, Any] = {
            "loc": list(self.loc or ("body",)),
            "msg": self.message,
            "type": self.type,
            "url": f"https://docs.fal.ai/errors#{self.type}",
            "input": self.value,
        }
        return entry | ({"ctx": self.ctx} if self.ctx else {})


class InvalidRequest(LongtakeError):
    """The request has a value that cannot be used."""

    type = "value_error"
    status = 422
    exit_code = 2


class NotSupported(InvalidRequest):
    """The request needs something that this installation does not have."""

    type = "feature_not_supported"


class DownloadFailed(InvalidRequest):
    """A file that the request names could not be downloaded."""

    type = "file_download_error"


class FileTooLarge(InvalidRequest):
    """A file has more bytes than the limit."""

    type = "file_too_large"


class UnsupportedVideo(InvalidRequest):
    """A file is not a readable video: another kind of file, damaged, or hostile."""

    type = "unsupported_video_format"


class UnsupportedImage(InvalidRequest):
    """A file is not a readable picture."""

    type = "unsupported_image_format"


class VideoTooLong(InvalidRequest):
    """A source lasts longer than the limit."""

    type = "video_duration_too_long"


class VideoTooLarge(InvalidRequest):
    """A source's frames have more pixels than the limit."""

    type = "image_too_large"


class ContentPolicyViolation(InvalidRequest):
    """The safety checker flagged a new frame."""

    type = "content_policy_violation"

    def __init__(self) -> None:
        super().__init__(
            "The content could not be processed because it contained material flagged by a content checker.",
            loc=("body", "prompt"),
        )


class BadCheckpoint(LongtakeError):
    """A model or adapter file is missing, malformed, or does not fit the model."""

    exit_code = 3


class ExpansionFailed(LongtakeError):
    """The language model's server failed or gave an unusable answer."""

    type = "downstream_service_error"
    status = 400


class DiskFull(LongtakeError):
    """A file could not be written because the disk is full."""

    status = 507


class Cancelled(LongtakeError):
    """The caller cancelled the request."""

    type = "client_cancelled"
    status = 499
    exit_code = 130

    def __init__(self) -> None:
        super().__init__("The request was cancelled.")
