"""A program that downloads a model for a server, which reads its progress.

    python -m longtake.models.pulling NAME

It writes one line of JSON to standard output at most five times a second, {"file", "bytes", "all_bytes"}, and at last
{"error": a sentence} or {"error": null}. It ends when its standard input ends, so it does not outlive its server.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from longtake.errors import LongtakeError
from longtake.models.download import pull
from longtake.models.registry import card
from longtake.settings import settings
from longtake.video import Progress

EVERY_S = 0.2
"""The shortest time in seconds between two lines of progress."""


class LinesOfProgress:
    """A progress callback that writes the progress of a download to standard output, at most one line per 0.2 s."""

    def __init__(self) -> None:
        self._next_at = 0.0

    def __call__(self, progress: Progress) -> None:
        if time.monotonic() >= self._next_at:
            self._next_at = time.monotonic() + EVERY_S
            file = progress.stage.removeprefix("fetch ")
            write({"file": file, "bytes": progress.step, "all_bytes": progress.steps})


def write(message: Mapping[str, Any]) -> None:
    """Writes `message` to standard output as one line of JSON."""
    print(json.dumps(message), flush=True)


def main(name: str) -> None:
    """Downloads the model with this name, and writes its progress and its result to standard output as lines of JSON.

    The process ends if its standard input ends before the download.
    """
    threading.Thread(target=_end_with_standard_input, daemon=True).start()
    try:
        pull(card(name), settings(), LinesOfProgress())
    except LongtakeError as error:
        write({"error": error.message})
    except OSError as error:
        write({"error": f"The model could not be stored: {error.strerror or type(error).__name__}."})
    else:
        write({"error": None})


def _end_with_standard_input() -> None:
    while os.read(0, 1024):  # An exit would abort while a thread is in a method of `sys.stdin`.
        pass
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
