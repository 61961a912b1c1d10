"""Points fal_client at the server that FAL_LOCAL_URL names, in programs that stay as they are.

Python imports this at its start where PYTHONPATH names its folder. It uses the standard library only, since the
program's Python is not ours, and does nothing until fal_client is imported. Another sitecustomize goes on working.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from types import ModuleType

MODULE = "fal_client.client"
HERE = os.path.dirname(os.path.abspath(__file__))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the one module as it would be found without us, and has its addresses changed once it is loaded."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def find_spec(self, fullname, path=None, target=None):  # type: ignore[no-untyped-def]
        if fullname != MODULE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._url)
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader, url: str) -> None:
        self._loader = loader
        self._url = url

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> "ModuleType | None":
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        module.__dict__.update(addresses(self._url))


def addresses(url: str) -> "dict[str, str]":
    """fal_client's globals, for a server with its services under /run, /queue, /rest and /cdn."""
    return {
        "RUN_URL_FORMAT": url + "/run/",
        "QUEUE_URL_FORMAT": url + "/queue/",
        "REST_URL": url + "/rest",
        "CDN_URL": url + "/cdn",
    }


def _run_next() -> None:
    """Runs the sitecustomize that this one hides."""
    others = [folder for folder in sys.path if os.path.abspath(folder or ".") != HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


if __name__ == "sitecustomize":
    if os.environ.get("FAL_LOCAL_URL"):
        sys.meta_path.insert(0, _Finder(os.environ["FAL_LOCAL_URL"]))
    _run_next()
