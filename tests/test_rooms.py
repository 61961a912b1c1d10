"""The house: which room may import which, no circles between modules, and the names that its vocabulary forbids."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import longtake

ROOT = Path(longtake.__file__).parent

FLOORS: tuple[tuple[str, ...], ...] = (
    ("__main__",),
    ("cli",),
    ("service",),
    ("worker",),
    ("queue",),
    ("access",),
    ("storage",),
    ("__init__",),
    ("library",),
    ("parameters",),
    ("runner",),
    ("output",),
    ("prepare",),
    ("endpoints",),
    ("families",),
    ("sampling",),
    ("models",),
    ("plans",),
    ("inspect",),
    ("media",),
    ("database",),
    ("prompts", "safety", "outbound"),
    ("settings", "shim"),
    ("video", "atomic", "periodic"),
    ("errors", "version"),
)
"""The rooms (folders and single modules) from the top floor down. A room imports only rooms of lower floors."""

FORBIDDEN = frozenset(
    re.findall(
        r"\w+",
        """take takes taken took kept given gives told tell tells asked asks said says shop board view door shelf
        stranger strangers following incoming footage hand hands extension words""",
    )
)
"""Words of an earlier private vocabulary. No module, class or function is named with one."""

PARALLEL_ROOMS = {"endpoints", "families"}
"""Rooms whose modules are built alike: the same thing has the same class name in each endpoint and each family."""

PARALLEL_CLASSES = {"EncodedPrompt"}
"""A class that the models of each family have, outside these rooms."""

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in sorted(ROOT.rglob("*.py"))
    if "migrations" not in path.parts
}
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}


def imports_of(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yields each module of the package that a file imports and the line, also inside functions and for types."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "longtake":
                    yield module_of(alias.name), node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "longtake":
            for alias in node.names:
                yield module_of(f"{node.module}.{alias.name}"), node.lineno


def module_of(name: str) -> str:
    """Returns the key in MODULES of a dotted name, which may end with the name of a class or function."""
    inner = name.removeprefix("longtake").removeprefix(".")
    while inner:
        for candidate in (inner, f"{inner}.__init__"):
            if candidate in MODULES:
                return candidate
        inner = inner.rpartition(".")[0]
    return "__init__"


def room_of(module: str) -> str:
    return module.split(".")[0]


def floor_of(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def names_in(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yields the name and line of each class and function of a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.lineno


def words_of(name: str) -> set[str]:
    """Returns the words of a name in snake case or camel case, in lower case."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def test_every_room_is_on_one_floor() -> None:
    rooms = [room for floor in FLOORS for room in floor]
    assert sorted(rooms) == sorted({room_of(name) for name in MODULES})


def test_a_module_imports_only_rooms_below_its_own() -> None:
    upwards = [
        f"{module} imports {target} in line {line}"
        for module, tree in TREES.items()
        for target, line in imports_of(tree)
        if room_of(target) != room_of(module) and floor_of(room_of(target)) <= floor_of(room_of(module))
    ]
    assert not upwards


def test_no_modules_import_each_other_in_a_circle() -> None:
    below: dict[str, set[str]] = defaultdict(set)
    for name, tree in TREES.items():
        below[name] = {target for target, _ in imports_of(tree)} - {name}
    finished: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"a circle of imports: {' -> '.join((*way[way.index(name) :], name))}"
        if name not in finished:
            for target in sorted(below[name]):
                visit(target, (*way, name))
            finished.add(name)

    for name in MODULES:
        visit(name, ())


def test_imports_in_functions_and_for_types_are_seen() -> None:
    tree = ast.parse(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from longtake.runner import Result\n"
        "def f():\n    from longtake.media import encode\n"
    )
    assert list(imports_of(tree)) == [("runner", 3), ("media.encode", 5)]


def test_no_name_has_a_word_of_the_private_vocabulary() -> None:
    names = [
        (f"{module}, line {line}", name)
        for module, tree in TREES.items()
        for name, line in [*((part, 1) for part in module.split(".")), *names_in(tree)]
    ]
    assert not [f"{place}: {name}" for place, name in names if words_of(name) & FORBIDDEN]


def test_forbidden_words_are_found_in_every_spelling() -> None:
    for name in ("take", "_take_turn", "KeptFrames", "in_hands", "HTTPDoor"):
        assert words_of(name) & FORBIDDEN
    for name in ("intake_pipe", "mistaken", "keeps_sound", "viewer"):
        assert not words_of(name) & FORBIDDEN


def test_each_class_name_is_used_once() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for module, tree in TREES.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name not in PARALLEL_CLASSES:
                places[node.name].append(module)
    for name, modules in places.items():
        if {room_of(module) for module in modules} <= PARALLEL_ROOMS:
            continue
        assert len(modules) == 1, f"{name} is a class in {', '.join(modules)}"


def test_every_module_has_a_docstring_and_at_most_400_lines() -> None:
    assert not [name for name, tree in TREES.items() if tree.body and not ast.get_docstring(tree)]
    assert not [name for name, path in MODULES.items() if len(path.read_text().splitlines()) > 400]
