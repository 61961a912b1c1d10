"""Turns failures of a child process that reads an untrusted file into the errors that its parent process raises.

This module does not import NumPy, so a server can use it without loading that library.
"""

from typing import Any

from longtake.errors import (
    DecoderFailed,
    InvalidRequest,
    LongtakeError,
    UnsupportedImage,
    UnsupportedVideo,
    VideoTooLarge,
    VideoTooLong,
)


def sent_error(header: dict[str, Any]) -> LongtakeError | None:
    """Returns the error that a child process has sent. Returns None if the message is malformed.

    The result is UnsupportedVideo, UnsupportedImage, VideoTooLong, VideoTooLarge or InvalidRequest. It is
    UnsupportedVideo if the message names any other class.

    header: the message, {"error": name of the class, "message": sentence for the user, "ctx": object or null}.
    """
    kinds = {
        kind.__name__: kind
        for kind in (UnsupportedVideo, UnsupportedImage, VideoTooLong, VideoTooLarge, InvalidRequest)
    }
    message, ctx = header.get("message"), header.get("ctx")
    if type(message) is not str or not _is_context(ctx):
        return None
    return kinds.get(str(header["error"]), UnsupportedVideo)(message, ctx=ctx)


def _is_context(value: Any) -> bool:
    """Returns True if a JSON value has the form of an error's `ctx`: null, or an object of numbers, texts and
    lists of them."""
    if type(value) is not dict:
        return value is None
    items = [item for field in value.values() for item in (field if type(field) is list else [field])]
    return all(type(item) in (str, int, float) for item in items)


def timeout_error(was_ready: bool, wall_s: float, used_s: float | None) -> LongtakeError:
    """Returns the error for a call of a decoding child process that took longer than `wall_s` seconds.

    It is UnsupportedVideo if the file is at fault. If the child had not started, or used less processor time than half
    of `wall_s`, the machine is at fault, and the error is DecoderFailed.

    was_ready: True if the child had started.
    used_s: seconds of processor time that the child used in the call; None if they are not known.
    """
    if not was_ready:
        return DecoderFailed(f"The process that decodes files did not start within {wall_s:g} s.")
    if used_s is not None and used_s < wall_s / 2:
        return DecoderFailed(
            f"The process that decodes the file stood still: in {wall_s:g} s it could use {used_s:.1f} s of "
            "processor time. The machine is overloaded, or its disk does not answer."
        )
    return UnsupportedVideo(f"Reading the video took longer than {wall_s:g} s and was stopped.")
