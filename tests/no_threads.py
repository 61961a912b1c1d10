"""Lets this process start no more threads, as at the limit of a container."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def no_threads(monkeypatch: pytest.MonkeyPatch, name: str = "", *, allowed: int = 0) -> Iterator[list[str]]:
    """Context manager: after `allowed` threads, no thread starts in its block whose name begins with `name`.

    Gives the list of the names of those that were refused.
    """
    start, begun, refused = threading.Thread.start, [], list[str]()

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith(name):
            begun.append(thread.name)
            if len(begun) > allowed:
                refused.append(thread.name)
                raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        yield refused
