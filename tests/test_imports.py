"""Garbage collection pauses for imports, and only for them; at their end, programs visit no objects of libraries."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from longtake.errors import Cancelled, NotSupported
from longtake.imports import importing_models, without_garbage_collection


def test_collections_pause_in_the_block_alone() -> None:
    with without_garbage_collection():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_collections_go_on_after_an_import_that_fails() -> None:
    with pytest.raises(ModuleNotFoundError), without_garbage_collection():
        import nothing_of_this_name  # type: ignore[import-not-found]  # noqa: F401
    assert gc.isenabled()


def test_collections_that_were_off_stay_off() -> None:
    gc.disable()
    try:
        with without_garbage_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_many_objects_of_the_block_are_old_afterwards_unless_others_are_frozen() -> None:
    def made_in_a_block(number: int = 20_000) -> list[list[int]]:
        with without_garbage_collection():
            return [[] for _ in range(number)]

    gc.unfreeze()
    old = made_in_a_block()
    assert any(one is old for one in gc.get_objects(generation=2))
    few = made_in_a_block(10)
    assert not any(one is few for one in gc.get_objects(generation=2))
    gc.freeze()
    frozen, young = gc.get_freeze_count(), made_in_a_block()
    assert 0 < gc.get_freeze_count() <= frozen, "frozen objects can be freed meanwhile"
    assert not any(one is young for one in gc.get_objects(generation=2))


def test_a_library_that_is_not_installed_is_named_with_what_installs_it() -> None:
    sentence = r"^nothing_of_this_name is not installed, .*: pip install '\.\[torch\]'"
    with pytest.raises(NotSupported, match=sentence), importing_models():
        import nothing_of_this_name.inner  # type: ignore[import-not-found]  # noqa: F401
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ImportError("libcudart.so.12: cannot open shared object file"), "ImportError: libcudart.so.12: cannot open"),
        (ModuleNotFoundError("No module named 'torch.x'", name="torch.x"), "No module named 'torch.x'"),
        (OSError("the DLL cannot be loaded"), "the DLL cannot be loaded"),
        (AttributeError("module 'torch' has no attribute 'Tensor'"), "has no attribute 'Tensor'"),
    ],
)
def test_a_library_that_is_broken_is_told_with_the_reason(error: Exception, reason: str) -> None:
    with pytest.raises(NotSupported) as raised, importing_models():
        raise error
    assert reason in raised.value.message
    assert raised.value.message.startswith("The libraries of the models cannot be imported (")
    assert raised.value.__cause__ is error


def test_own_errors_pass_unchanged() -> None:
    with pytest.raises(Cancelled), importing_models():
        raise Cancelled


@pytest.mark.parametrize("program", ["longtake.__main__", "longtake.worker.main"])
def test_the_end_of_a_program_visits_none_of_the_libraries_objects(tmp_path: Path, program: str) -> None:
    """With torch they are half a million objects, and the end of the interpreter would collect garbage several times.

    The worker process ends because its standard input does. It needs no torch for that.
    """
    (tmp_path / "torch.py").write_text("raise ImportError")
    script = (
        "import atexit, gc, sys\n"
        f"from {program} import main\n"
        "atexit.register(lambda: print(len(gc.get_objects()), gc.get_freeze_count(), file=sys.stderr))\n"
        "main()"
    )
    command = [sys.executable, "-c", script, "--version"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(tmp_path), *sys.path))}
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    visited, frozen = map(int, done.stderr.splitlines()[-1].split())
    assert visited < 1000 < frozen
