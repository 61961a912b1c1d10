"""Imports of the large libraries that the models need: how they are installed, and what users read if one fails."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from longtake.deferred_modules import deferred_modules
from longtake.errors import LongtakeError, NotSupported

INSTALL_TORCH = "pip install '.[torch]' in a clone of longtake"
"""The command that installs torch and the other libraries of the models, for messages to the user."""

TORCH_MODULES = frozenset(("accelerate", "cv2", "diffusers", "google", "sentencepiece", "torch", "transformers"))
"""The modules of the packages that the extra `torch` installs."""


_MANY = 10_000
"""Number of new objects above which an import moves all objects into the oldest generation."""


def import_sentence(error: Exception) -> str:
    """Returns a sentence for the user about an error of importing torch, or a library that the models need."""
    package = str(getattr(error, "name", "")).partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and find_spec(package) is None:
        return f"{package} is not installed, and the models need it: {INSTALL_TORCH}."
    reason = f"{type(error).__name__}: {error}".rstrip(": .")
    return f"The libraries of the models cannot be imported ({reason}). Install them again: {INSTALL_TORCH}."


@contextmanager
def importing_models() -> Iterator[None]:
    """Context manager for imports of torch and of modules that import it.

    In its block garbage collection is paused, and large modules that are seldom used do not run (`deferred_modules`).
    Raises NotSupported with a sentence for the user if an import fails.
    """
    try:
        with without_garbage_collection(), deferred_modules():
            yield
    except LongtakeError:
        raise
    except Exception as error:
        raise NotSupported(import_sentence(error)) from error


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Context manager that pauses automatic garbage collection until its `with` block ends.

    Use it to import torch and diffusers. These imports create half a million objects that live as long as the process.
    Without the pause, a sixth of the time would go into collections that find nothing to free.

    The end of the block moves all objects into the oldest generation, which is collected least often. It does not do
    this if the block created few objects (below `_MANY`), because a module was imported before, for example; nor in a
    process that has frozen objects (`gc.freeze`), because it would unfreeze them.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            if gc.get_count()[0] > _MANY and not gc.get_freeze_count():  # the latter visits all frozen objects
                gc.freeze()
                gc.unfreeze()  # moves all objects into the oldest generation
            gc.enable()
