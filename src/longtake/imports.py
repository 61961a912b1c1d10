"""Imports of large libraries: how they are installed, and a context manager that makes them faster."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

INSTALL_TORCH = "pip install '.[torch]' in a clone of longtake"
"""The command that installs torch and the other libraries of the models, for messages to the user."""


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Context manager that pauses automatic garbage collection until its `with` block ends.

    Use it to import torch and diffusers. These imports create half a million objects that live as long as the process.
    Without the pause, a sixth of the time would go into collections that find nothing to free.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
