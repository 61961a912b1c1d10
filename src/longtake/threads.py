"""Starts threads, and prepares those with which torch computes on a CPU."""

import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import ParamSpec, TypeVar

from longtake.video import CHECK_EVERY_S, Check

P = ParamSpec("P")
T = TypeVar("T")

_DEFAULTS = {"OMP_WAIT_POLICY": "PASSIVE", "MKL_CBWR": "AUTO,STRICT"}


def start(thread: threading.Thread) -> None:
    """Starts a thread. Raises OSError (EAGAIN), as the start of a process does, if the system allows no more threads.

    The caller must then undo what it has prepared for the thread.
    """
    try:
        thread.start()
    except RuntimeError as error:
        if thread.ident is not None:
            raise  # it was started before
        raise _no_more_threads() from error


class Pool(ThreadPoolExecutor):
    """A thread pool. `submit` and `map` raise OSError (EAGAIN) if the system allows no more threads.

    After the `with` block or `shutdown`, it must not be used.
    """

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        try:
            return super().submit(fn, *args, **kwargs)
        except RuntimeError as error:
            raise _no_more_threads() from error


def in_thread(work: Callable[[], T], name: str) -> Future[T]:
    """Calls `work` in a daemon thread of this name, and returns at once. The future gets its result or its error.

    A caller that waits no longer leaves the thread to itself. It ends with `work`, or with the process.

    Raises OSError if the system allows no more threads.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    start(threading.Thread(target=run, daemon=True, name=name))
    return future


def awaited(future: Future[T], check: Check) -> T:
    """Waits for a future. Returns its result, or raises its error.

    `check` is called again and again meanwhile. It may raise an exception to end the wait.
    """
    while not wait([future], CHECK_EVERY_S).done:
        check()
    return future.result()


def _no_more_threads() -> OSError:
    return OSError(errno.EAGAIN, "no more threads can be started")


def prepare_threads() -> None:
    """Sets how torch's threads wait and share their work. Call it before torch is imported; later it has no effect.

    It sets environment variables that torch's libraries read when they are loaded. A variable that the user has set
    stays as it is.

    - OMP_WAIT_POLICY: threads sleep while they wait for each other. By default they wait in a loop. On a busy machine
      the loop takes the processor from the thread that they wait for, and a request takes many times as long.
    - MKL_CBWR: a matrix product has the same bits at any number of threads. By default they differ in the last places.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
