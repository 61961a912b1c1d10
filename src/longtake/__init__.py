"""longtake extends any video with LTX models, on the user's own hardware.

`extend` makes a video longer, `plan` returns the plan that `extend` would carry out, and `load` loads a model once for
many videos. Importing this package loads neither torch nor a model.
"""

from longtake.version import __version__

TYPE_CHECKING = False  # The module `typing` is slow to import, and before `__main__` runs, Ctrl-C prints a traceback.

if TYPE_CHECKING:
    from typing import Any

    from longtake import errors
    from longtake.library import Model, extend, load, plan
    from longtake.plans import Plan
    from longtake.runner import Result

__all__ = ["Model", "Plan", "Result", "__version__", "errors", "extend", "load", "plan"]

_HOMES = {
    "Model": "longtake.library",
    "Plan": "longtake.plans",
    "Result": "longtake.runner",
    "extend": "longtake.library",
    "load": "longtake.library",
    "plan": "longtake.library",
}


def __getattr__(name: str) -> "Any":
    from importlib import import_module

    if name == "errors":
        return import_module("longtake.errors")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'longtake' has no attribute {name!r}")
