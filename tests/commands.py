"""Commands that tests run in processes of their own."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def terminated(process: "subprocess.Popen[bytes]", wait_s: float = 30) -> Iterator[None]:
    """Context manager: ends a process at the end of its block. One that goes on for `wait_s` seconds is killed."""
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(wait_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
