"""Redirects fal_client to the server at FAL_LOCAL_URL. The program that uses fal_client need not be changed.

Python imports this module when it starts, if PYTHONPATH lists the module's folder. The module uses only the standard
library, because it runs in the program's Python environment. When the program imports fal_client, this module replaces
the URLs there. If the environment has another `sitecustomize`, this module runs it as well.
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
    """Finds the module `fal_client.client` in the usual way, but gives it a loader that replaces the URLs in it.

    `url` is the URL of the server. For all other modules Python uses its usual finders.
    """

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
    """Loads the module `fal_client.client`, then replaces fal's URLs in it by those of the server.

    `loader` is the usual loader of the module. `url` is the server's URL without a trailing slash.
    """

    def __init__(self, loader: importlib.abc.Loader, url: str) -> None:
        self._loader = loader
        self._url = url

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> "ModuleType | None":
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        module.__dict__.update(addresses(self._url))


def addresses(url: str) -> "dict[str, str]":
    """Returns the global variables of fal_client that must be replaced, name -> new value, so that it calls the server.

    `url` is the server's URL without a trailing slash. The new values are URLs, or beginnings of URLs, of that server.
    """
    return {
        "RUN_URL_FORMAT": url + "/run/",
        "QUEUE_URL_FORMAT": url + "/queue/",
        "REST_URL": url + "/rest",
        "CDN_URL": url + "/cdn",
    }


def _run_next() -> None:
    """Runs the `sitecustomize` that Python would import if this one did not exist. Does nothing if there is none."""
    others = [folder for folder in sys.path if os.path.abspath(folder or ".") != HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


if __name__ == "sitecustomize":
    if os.environ.get("FAL_LOCAL_URL"):
        sys.meta_path.insert(0, _Finder(os.environ["FAL_LOCAL_URL"]))
    _run_next()
