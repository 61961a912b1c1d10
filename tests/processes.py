"""Processes that start in milliseconds: each is forked from a process that has imported the server already."""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.worker.server", "tests.queue.sender"])


@contextmanager
def forked(target: Callable[..., None], *arguments: object) -> Iterator[ForkServerProcess]:
    """Runs `target(*arguments)` in a process of its own, and kills it in the end."""
    process = _FORKS.Process(target=target, args=arguments)
    process.start()
    try:
        yield process
    finally:
        kill(process)


def kill(process: ForkServerProcess) -> None:
    """Kills the process, and waits until it is gone."""
    process.kill()
    process.join()


def send_signal(process: ForkServerProcess, number: int) -> None:
    """Sends a signal to a process that has been started."""
    assert process.pid is not None
    os.kill(process.pid, number)
