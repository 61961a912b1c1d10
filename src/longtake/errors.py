"""Everything that a user can do wrong, as sentences; and the one place where an error gets fal's type and status."""

from collections.abc import Mapping
from typing import Any, ClassVar

Loc = tuple[str | int, ...]


class LongtakeError(Exception):
    """A failure that is said in one sentence: what was wrong, with which value, what would be right.

    `loc` names the offending field as pydantic does (`("body", "video", "strength")`), or is empty.
    `ctx` holds the facts a client may read (limits, supported values); `value` is the offending value.
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
        """One entry of fal's `detail` list: {loc, msg, type, url, input[, ctx]}."""
        entry: dict[str, Any] = {
            "loc": list(self.loc or ("body",)),
            "msg": self.message,
            "type": self.type,
            "url": f"https://docs.fal.ai/errors#{self.type}",
            "input": self.value,
        }
        return entry | ({"ctx": self.ctx} if self.ctx else {})


class InvalidRequest(LongtakeError):
    """A field whose value cannot be done."""

    type = "value_error"
    status = 422
    exit_code = 2


class NotSupported(InvalidRequest):
    """Asked for something that this installation does not have."""

    type = "feature_not_supported"


class DownloadFailed(InvalidRequest):
    type = "file_download_error"


class FileTooLarge(InvalidRequest):
    type = "file_too_large"


class UnsupportedVideo(InvalidRequest):
    """Not a video that can be read: wrong kind, broken, or hostile."""

    type = "unsupported_video_format"


class UnsupportedImage(InvalidRequest):
    """Not a picture that can be read."""

    type = "unsupported_image_format"


class VideoTooLong(InvalidRequest):
    type = "video_duration_too_long"


class VideoTooLarge(InvalidRequest):
    """More pixels than the limit."""

    type = "image_too_large"


class ContentPolicyViolation(InvalidRequest):
    type = "content_policy_violation"

    def __init__(self) -> None:
        super().__init__(
            "The content could not be processed because it contained material flagged by a content checker.",
            loc=("body", "prompt"),
        )


class BadCheckpoint(LongtakeError):
    """A model or adapter file that is missing, malformed, or does not fit."""

    exit_code = 3


class ExpansionFailed(LongtakeError):
    """The language model's server did not answer as it should."""

    type = "downstream_service_error"
    status = 400


class DiskFull(LongtakeError):
    """A file could not be written for want of room."""

    status = 507


class Cancelled(LongtakeError):
    """The caller asked to stop; the work stopped within one step."""

    type = "client_cancelled"
    status = 499
    exit_code = 130

    def __init__(self) -> None:
        super().__init__("The request was cancelled.")
