"""Defers the code of large modules that the models' libraries import and seldom use, until a module is used.

Without this, a process that loads a model spends a third of its start's processor time on modules that it never uses.
`importlib.util.LazyLoader` does not help: it runs a package as soon as one of its submodules is imported.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from threading import RLock
from types import ModuleType
from typing import Any

DEFERRED: Mapping[str, tuple[str, ...]] = {
    "diffusers.models.autoencoders": (),
    "diffusers.models.transformers": (),
    "diffusers.models.unets": (),
    "scipy.integrate": (),
    "scipy.optimize": ("linear_sum_assignment",),
    "scipy.stats": (),
    "transformers.models": (),
}
"""The modules that are deferred, and for each the functions that other modules import from it by name.

The packages of diffusers and transformers import each model of the library. Those of scipy are imported by schedulers
and by losses of training.
"""

_RUNNING = RLock()


@contextmanager
def deferred_modules() -> Iterator[None]:
    """Context manager: modules of DEFERRED that are imported in its block run their code when they are first used.

    A module is used when an attribute is read that it does not have yet. So `from scipy.stats import beta` runs it,
    and `import scipy.stats` does not. Submodules of a package can be imported without its code.
    """
    finder = _DeferredFinder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _DeferredFinder:
    """Finds the modules of DEFERRED where Python's own finder does, and leaves others to the next finder."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in DEFERRED else None
        if spec is not None and spec.loader is not None:
            spec.loader = _Deferring(spec.loader)
        return spec


class _Deferring(Loader):
    """Loads a module without running its code.

    loader: the loader that can run the code.
    """

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__class__ = _Deferred


class _Deferred(ModuleType):
    """A module whose code has not been run yet."""

    def __getattr__(self, name: str) -> Any:
        if name in DEFERRED[self.__name__]:
            return _function(self, name)
        module = _run(self)
        # A package may have put another module into its place. Its own attributes are read without this method.
        return ModuleType.__getattribute__(self, name) if module is self else getattr(module, name)


def _function(module: ModuleType, name: str) -> Callable[..., Any]:
    """Returns a function that runs the code of a deferred module, and then calls the module's function `name`."""

    def call(*args: Any, **keywords: Any) -> Any:
        return getattr(_run(module), name)(*args, **keywords)

    return call


def _run(module: ModuleType) -> ModuleType:
    """Runs the code of a deferred module, unless it has run, and returns the module that has its name then."""
    with _RUNNING:
        spec = module.__spec__
        if spec is not None and isinstance(spec.loader, _Deferring):
            spec.loader = module.__loader__ = spec.loader.loader
            try:
                spec.loader.exec_module(module)
            except BaseException:
                sys.modules.pop(module.__name__, None)  # a later import tries it again
                raise
            module.__class__ = ModuleType
        return import_module(module.__name__)
