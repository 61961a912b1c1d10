"""Standard output and standard error of the command line, made so that writing to them does not fail."""

import io
import os
import sys
from typing import Any


class PatientStream(io.TextIOWrapper):
    """A text stream to a reader that may end early, such as `head -1`, or to a file on a disk that may be full.

    When nothing more can be written, the rest of the text is dropped, and the command goes on to its own exit status.

    failure: why text was lost; None if no text was lost, or if the reader ended early, which is no failure.
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
        """Drops the text that is still buffered and all text that is written later. Remembers the reason as `failure`.

        error: the error of the write that failed. BrokenPipeError means that the reader ended early, which is no
            failure.
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
    """Returns a PatientStream in place of `stream`, for the same file and with the same encoding.

    Returns `stream` itself if it is not Python's usual text stream, for example None or a stream for a test.
    """
    if type(stream) is not io.TextIOWrapper:
        return stream
    encoding, buffered_by_line = stream.encoding, stream.line_buffering
    return PatientStream(stream.detach(), encoding, "backslashreplace", line_buffering=buffered_by_line)


def holds(text: str) -> bool:
    """Returns True if the encoding of standard output has all characters of the text."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
