"""Redirects fal_client to the server at FAL_LOCAL_URL, in programs that are not changed.

Python imports this module at the start if PYTHONPATH names its folder. It uses only the standard library, because it
runs in the program's Python environment, and does nothing until fal_client is imported. If there is another
sitecustomize, that one is run as well.
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
    """Finds fal_client's module in the usual way, and lets `_Loader` change its URLs after loading."""

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
    """Returns fal_client's globals that hold URLs, by name, for the server at this URL."""
    return {
        "RUN_URL_FORMAT": url + "/run/",
        "QUEUE_URL_FORMAT": url + "/queue/",
        "REST_URL": url + "/rest",
        "CDN_URL": url + "/cdn",
    }


def _run_next() -> None:
    """Runs the next sitecustomize on the path, which Python would have imported without this one."""
    others = [folder for folder in sys.path if os.path.abspath(folder or ".") != HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


if __name__ == "sitecustomize":
    if os.environ.get("FAL_LOCAL_URL"):
        sys.meta_path.insert(0, _Finder(os.environ["FAL_LOCAL_URL"]))
    _run_next()
