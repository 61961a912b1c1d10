"""What the rooms may know of each other: no endpoint and no family by name, and no torch before it is needed."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import longtake
from longtake.endpoints import ENDPOINTS
from longtake.families import FAMILIES
from tests.house import parsed

ROOT = Path(longtake.__file__).parent
OPEN_TO_ALL = {
    "endpoints": {"body_check", "endpoint", "fields", "label", "tariff", "validation"},
    "families": {"family"},
}
"""The modules of these rooms that belong to no single endpoint or family."""

NAMES = {*ENDPOINTS, *FAMILIES, *(one.name for one in ENDPOINTS.values())}
TABLES = {"models/registry.py": "family"}
"""The class attribute that may hold a family's name, by file."""

HOMONYMS = {"sampling/levels.py": {"ltx2"}, "sampling/schedules.py": {"ltx2"}}
"""Words that are a family's name and something else, too: a published schedule is called so."""

OTHERS = [path for path in sorted(ROOT.rglob("*.py")) if path.relative_to(ROOT).parts[0] not in OPEN_TO_ALL]


def imported(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """The modules that a file imports, also inside functions and for types, and the names that it imports from them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def own_modules(room: str) -> set[str]:
    """The modules of single endpoints or families: `longtake.families.<name>` for each."""
    found = {path.stem if path.suffix == ".py" else path.name for path in (ROOT / room).iterdir()}
    private = found - OPEN_TO_ALL[room] - {"__init__", "__pycache__"}
    return {f"longtake.{room}.{name}" for name in private}


PRIVATE = own_modules("endpoints") | own_modules("families")


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_endpoint_and_no_family_is_known_by_name(path: Path) -> None:
    tree = parsed(path)
    known = [f"line {line}: {name}" for name, line in imported(tree) if any(_within(name, one) for one in PRIVATE)]
    assert not known, "modules of single endpoints or families are imported by the tables alone"
    place = str(path.relative_to(ROOT))
    attribute, names = TABLES.get(place), NAMES - HOMONYMS.get(place, set())
    allowed = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == attribute
    }
    spelled = [
        f"line {node.lineno}: {node.value!r}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in names and id(node) not in allowed
    ]
    assert not spelled, "an endpoint or a family is named outside the tables"
    assert not [one for one in ENDPOINTS if one in path.read_text()], "an endpoint's id is in the text"


def _within(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def test_the_check_sees_what_it_looks_for() -> None:
    assert "longtake.endpoints.ltx23" in PRIVATE
    assert "longtake.families.ltxv" in PRIVATE
    tree = ast.parse("def f():\n    from longtake.families.ltxv.plan import LTXVPlan")
    assert any(_within(name, one) for name, _ in imported(tree) for one in PRIVATE)


NEED_NO_TORCH = """
import sys
from importlib import import_module
for name in ("", ".families", ".endpoints", ".prepare", ".library", ".cli"):
    import_module(f"longtake{name}")
    assert not {"torch", "diffusers"} & sys.modules.keys(), name
import longtake
longtake.extend, longtake.plan, longtake.load
assert "torch" not in sys.modules, "the faces of the library"
"""


def test_no_torch_before_it_is_needed() -> None:
    """Neither by importing the package and its rooms, nor by naming the library's functions, which are not called."""
    subprocess.run([sys.executable, "-c", NEED_NO_TORCH], check=True)
