"""Fixtures of all rooms: the shared reference folder, the numeric oracle, and its cases.

Torch is imported where it is needed, because the process that starts the workers of a parallel run needs none.
"""

import gc
import logging
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from hypothesis import HealthCheck, settings

from longtake.deferred_modules import deferred_modules
from longtake.imports import without_garbage_collection

if TYPE_CHECKING:
    from bench.oracle.case import Case

SHARED = Path(__file__).parents[2] / "shared"

# The clock decides nothing: an example may take long on a busy machine.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

pytest_plugins = ["tests.database.fixtures", "tests.storage.fixtures"]


WAITING, COMPUTING = ("worker", "queue", "service"), ("record", "recipes", "tests", "cli", "endpoints")
"""Folders with slow files: of tests that mostly wait for other processes, and of tests that mostly compute."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Orders the files for parallel runs.

    The contract tests come first, because they share servers. Then files that wait and files that compute are mixed
    evenly, so that seldom all workers wait. The quicker files come last, so that all workers end together.
    """
    files = list(dict.fromkeys(item.path for item in items))
    rank = {path: -1.0 for path in files if path.parent.name == "contract"}
    for folders in (WAITING, COMPUTING):
        group = [path for path in files if path.parent.name in folders]
        rank |= {path: number / len(group) for number, path in enumerate(group)}
    items.sort(key=lambda item: rank.get(item.path, 1.0))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Leaves the modules and the collected tests, which live to the end, out of garbage collections.

    As in a process that loads a model, large modules of libraries do not run before something uses them.
    """
    with without_garbage_collection(), deferred_modules():
        result = yield
        gc.freeze()
    return result


def pytest_unconfigure() -> None:
    gc.freeze()  # otherwise the end of the interpreter visits all objects of the modules that tests have imported


def pytest_configure() -> None:
    # Hundreds of processes import the project: they read the compiled modules that the first ones store.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    # Tests look at the models' own frames, except tests/test_runner_detail.py.
    os.environ.setdefault("LONGTAKE_CARRY_DETAIL", "never")
    if "PYTEST_XDIST_WORKER" in os.environ:  # one core for each, and for the processes that it starts
        import torch

        os.environ["OMP_NUM_THREADS"] = "1"
        torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _quiet_machine() -> None:
    import torch

    torch.set_grad_enabled(False)


@pytest.fixture(autouse=True)
def _same_torch_state() -> Iterator[None]:
    """Fails a test that leaves torch in another state than before, because later tests would compute with it."""
    from tests.torch_state import torch_state

    before = torch_state()
    yield
    assert torch_state() == before, "torch is not as it was before the test"


@pytest.fixture(autouse=True)
def _same_priority() -> Iterator[None]:
    """Fails a test that leaves its thread with another scheduling policy than before.

    With real-time priority, later tests and the processes that they start would keep others from running.
    """
    before = _policy()
    yield
    assert _policy() == before, "the thread's scheduling policy is not as it was before the test"


def _policy() -> int:
    """Returns the scheduling policy of this thread; 0, the usual one, where the system does not tell it."""
    return os.sched_getscheduler(0) if hasattr(os, "sched_getscheduler") else 0


@pytest.fixture(autouse=True)
def _own_log_handlers() -> Iterator[None]:
    """Takes away the handlers of a server's log that a test started in this process: their stream ends with the test.

    Threads of later tests would log to it, and Python would report that the stream is closed.
    """
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="module")
def forked_decoders() -> Iterator[None]:
    """Starts the decode processes of a module's tests in a fiftieth of the time (see `tests.decode_processes`)."""
    from longtake.media import sandbox
    from tests.decode_processes import SUBPROCESS

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox, "subprocess", SUBPROCESS)
        yield


@pytest.fixture
def log() -> Iterator[list[dict[str, object]]]:
    """The lines that the server logs during a test."""
    before = structlog.get_config()
    with structlog.testing.capture_logs() as lines:
        yield lines  # type: ignore[misc]
    structlog.configure(**before)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Lets torch compute with one thread in a module's tests: more lose much where other work runs beside them."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Lets torch compute with two threads during a test."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The reference folder that may lie beside the project."""
    if not SHARED.exists():
        pytest.skip("the folder ../shared with the reference material is not beside the project")
    return SHARED


@pytest.fixture(scope="session")
def oracle() -> Path:
    """The numeric oracle: the whole of it where it is there, else the core that ships with the tests."""
    from bench.oracle.case import oracle_folder

    return oracle_folder()


@pytest.fixture(scope="session")
def embedded() -> Any:
    """The embedded model, loaded once."""
    from longtake.families.ltxv.model import load
    from longtake.models.registry import missing
    from longtake.settings import settings
    from tests.models.cards import ltxv_card

    if missing(ltxv_card("ltxv-tiny"), settings()):
        pytest.skip("the embedded model's weights are not in the package")
    return load(ltxv_card("ltxv-tiny"), settings())


@pytest.fixture(scope="session")
def sounding() -> Any:
    """The embedded model that also hears and sounds, loaded once."""
    from longtake.families.ltx2.model import load
    from longtake.models.registry import missing
    from longtake.settings import settings
    from tests.models.cards import ltx2_card

    if missing(ltx2_card("ltx2-tiny"), settings()):
        pytest.skip("the weights of the embedded model with sound are not in the package")
    return load(ltx2_card("ltx2-tiny"), settings())


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole small LTX-Video model on disk."""
    from tests.models import small

    return small.write_model(tmp_path_factory.mktemp("models") / "small")


def load_case(root: Path, name: str) -> "Case":
    """An oracle case; a named skip where the set at `root` does not have it."""
    from bench.oracle import case

    try:
        return case.load_case(root, name)
    except FileNotFoundError:
        pytest.skip(f"oracle case {name} is not in the set at hand")
