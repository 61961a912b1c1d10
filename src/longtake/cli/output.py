"""Standard output and standard error of the command line, made so that writing to them does not fail."""

import io
import os
import sys
from typing import Any


class PatientStream(io.TextIOWrapper):
    """A text stream to which writing never fails. After the first failed write, all further text is dropped.

    A write fails if the reader ends early, as `head -1` does, or if the disk is full. The command then still runs to
    its end and sets its own exit status.

    failure: why text was lost; None if no text was lost, or only because the reader ended early.
    """

    failure: str | None = None

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._drop_the_rest(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._drop_the_rest(error)

    def _drop_the_rest(self, error: OSError) -> None:
        """Drops the text that is still buffered and all text that is written later. Sets `failure` to the error's text.

        error: the error of the write that failed. BrokenPipeError means that the reader has ended early; `failure` then
            stays None.
        """
        if not isinstance(error, BrokenPipeError):
            self.failure = error.strerror
        # From here on, the stream writes to the null device.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)


def make_output_safe() -> None:
    r"""Replaces standard output and standard error by streams to which writing does not fail.

    - A character that the stream's encoding does not have is written as its escape, such as `\u65e5`.
    - If the stream's reader ends early, as `head -1` does, the rest of the text is dropped.
    - If the text cannot be written, for example to a full disk, it is dropped, and `check_output` reports that.
    """
    sys.stdout = _safe(sys.stdout)
    sys.stderr = _safe(sys.stderr)


def check_output() -> None:
    """Ends the program with exit status 1, and a sentence on standard error, if text to standard output was lost."""
    stream: Any = sys.stdout
    if stream is None:  # the program was started with its standard output closed
        return
    stream.flush()
    reason = getattr(stream, "failure", None)
    if reason is not None:
        print(f"Error: Standard output cannot be written: {reason}.", file=sys.stderr)
        sys.exit(1)


def _safe(stream: Any) -> Any:
    """Returns a stream that replaces `stream`, and to which writing never fails (a PatientStream).

    It writes to the same file, with the same encoding.

    Returns `stream` itself if it is not Python's usual text stream, for example None or a stream for a test.
    """
    if type(stream) is not io.TextIOWrapper:
        return stream
    encoding, buffered_by_line = stream.encoding, stream.line_buffering
    return PatientStream(stream.detach(), encoding, "backslashreplace", line_buffering=buffered_by_line)


def holds(text: str) -> bool:
    """Returns True if standard output can print all characters of the text, which depends on its encoding."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
