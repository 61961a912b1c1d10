"""Writes docs/house.md from the source tree: `python -m tests.house > docs/house.md`."""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "longtake"
PAGE = ROOT / "docs" / "house.md"

LEAVES = frozenset(
    {
        "atomic",
        "errors",
        "host_memory",
        "imports",
        "outbound",
        "periodic",
        "prompts",
        "safety",
        "settings",
        "system",
        "version",
        "video",
    }
)
"""Single modules that every room may import. The picture shows them as one box."""

FACES = frozenset({"__init__", "__main__", "shim"})
"""Entry points: nothing imports them, so the picture leaves them out."""

FILES = {
    "database/migrations/": "Alembic's environment, and one file per version of the tables.",
    "service/static/": "The style sheets, scripts and icon of the server's pages, and the example that they show.",
    "service/templates/": "The HTML of the server's page.",
    "shim/fal_local.mjs": "Points fal's JavaScript client at a local server.",
    "weights/": "The two embedded models.",
    "py.typed": "Marks the package as typed (PEP 561).",
}
"""What is no module: files, and folders described as a whole (they end in a slash)."""

TEXT = """\
# The house

`src/longtake` is divided into rooms. A room is a folder, or a module that stands alone. The lists below go from the top
floor down, and a room imports only rooms below it. `tests/test_rooms.py` checks every import, also those inside
functions and for types. It also says which tests cover a module that has no test file of its name.

`import longtake`, `longtake --help`, `longtake plan` and the server's own process load neither torch nor diffusers. The
server starts `worker/main.py` as a process of its own; only there, and in functions, does `worker/` import `runner`.
"Hops" are the eight steps of a request in [the README](../README.md#the-way-of-a-request-in-eight-hops).

This page is generated: `python -m tests.house > docs/house.md`. The text of a line is the first sentence of the
module's docstring, and a folder's is that of its `__init__.py`.

## Words

| word | meaning |
|---|---|
| window | frames that are sampled together: its context, and new frames. A longer video has several windows |
| context | the frames, with their sound, that a window continues: source frames, or those of the window before it |
| pass | a run of a window through the sampling steps. A second pass refines the first one's frames at twice the size |
| prediction | what one evaluation of the transformer returns for one prompt |
| part | a piece of a model with weights of its own, such as the VAE |
| adapter | a LoRA: a small change of a transformer's weights, applied with a scale in each pass |
| modality | video or audio: LTX-2 samples both together |
| plan | what is decided about a video before its generation |
| joint | the place where source and new frames meet |

## Rooms

An arrow points from a room to a room that it imports. An arrow is left out where a longer way implies it. Every room
may import the leaf modules, {leaves}.

{picture}

## Files

```
{tree}
```

## Beside the package

| folder | what it holds |
|---|---|
| `tests/` | tests, in the folders of `src/longtake`; `tests/data/oracle` holds the original implementations' numbers |
| `docs/` | one page per subject |
| `bench/` | measurements, one command each ([benchmarks.md](benchmarks.md)) |
| `recipes/tiny/`, `recipes/tiny_av/` | the training of the two embedded models ([tiny_model.md](tiny_model.md)) |
| `examples/` | the clips that `make demo` extends, with their true continuations |
"""


@cache
def parsed(path: Path) -> ast.Module:
    """A parsed file. The tests of the structure share it."""
    return ast.parse(path.read_text())


@cache
def paths() -> Sequence[str]:
    """The paths of the modules below `src/longtake`, without those that `FILES` describes as a folder."""
    folders = tuple(name for name in FILES if name.endswith("/"))
    found = [path.relative_to(SOURCE).as_posix() for path in sorted(SOURCE.rglob("*.py"))]
    return [path for path in found if not path.startswith(folders)]


def modules() -> Mapping[str, ast.Module]:
    """The parsed modules by these paths."""
    return {path: parsed(SOURCE / path) for path in paths()}


def first_sentence(module: ast.Module) -> str:
    """The first sentence of a module's docstring, on one line."""
    paragraph = (ast.get_docstring(module) or "").split("\n\n")[0]
    return re.split(r"(?<=[.?])\s+(?=[A-Z`])", " ".join(paragraph.split()))[0]


def room(path: str) -> str:
    """The room of a module: its folder or itself; `leaves` for a leaf module."""
    name = path.split("/")[0].removesuffix(".py")
    return "leaves" if name in LEAVES else name


@cache
def imports() -> Mapping[str, frozenset[str]]:
    """The rooms that each room imports, without faces and leaf modules."""
    found: dict[str, set[str]] = {room(path): set() for path in modules()}
    for path, module in modules().items():
        found[room(path)] |= {room(target) for target in _imported(module)} - {room(path)}
    beside = FACES | {"leaves"}
    return {name: frozenset(targets - beside) for name, targets in found.items() if name not in beside}


def _imported(module: ast.Module) -> Iterator[str]:
    """The package's modules that a module imports, anywhere in it, as paths below `src/longtake` without a suffix."""
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and node.module == "longtake":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("longtake."):
            yield node.module.removeprefix("longtake.").replace(".", "/")
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("longtake.")]
            yield from (name.removeprefix("longtake.").replace(".", "/") for name in names)


def from_the_top() -> list[str]:
    """The rooms from the top: each one imports only later ones. Raises `CycleError` if that cannot be."""
    floors: dict[str, int] = {}
    for name in TopologicalSorter(imports()).static_order():
        floors[name] = 1 + max((floors[target] for target in imports()[name]), default=0)
    return sorted(floors, key=lambda name: (-floors[name], name))


def arrows() -> list[tuple[str, str]]:
    """The imports between rooms without those that a longer way implies (the transitive reduction)."""
    below: dict[str, frozenset[str]] = {}
    for name in reversed(from_the_top()):
        below[name] = imports()[name].union(*(below[target] for target in imports()[name]))
    return [
        (name, target)
        for name in from_the_top()
        for target in sorted(imports()[name])
        if not any(target in below[other] for other in imports()[name])
    ]


def picture() -> str:
    """The rooms and their arrows as a Mermaid diagram."""
    boxes = [f'    {name}["{name}{"" if f"{name}.py" in paths() else "/"}"]' for name in from_the_top()]
    return "\n".join(["```mermaid", "flowchart TD", *boxes, *(f"    {a} --> {b}" for a, b in arrows()), "```"])


def tree() -> str:
    """The package as an indented tree: rooms from the top, then the leaf modules, each file with its line."""
    lines = {path: first_sentence(module) for path, module in modules().items()} | FILES
    faces = ["__init__.py", "__main__.py"]
    rooms = [f"{name}.py" if f"{name}.py" in lines else f"{name}/" for name in from_the_top()]
    leaves = [f"{name}.py" for name in sorted(LEAVES)]
    rows: list[tuple[str, str]] = [("src/longtake/", "")]
    for place in [*faces, *rooms, "shim/", *leaves, "weights/", "py.typed"]:
        rows += _rows(place, lines, depth=1)
    width = max(len(name) for name, _ in rows) + 2
    return "\n".join(f"{name:<{width}}{text}".rstrip() for name, text in rows)


def _rows(place: str, lines: Mapping[str, str], depth: int) -> Iterator[tuple[str, str]]:
    """The row of a file; for a folder its own row, then those of what it holds."""
    yield (
        "  " * depth + Path(place).name + ("/" if place.endswith("/") else ""),
        lines.get(f"{place}__init__.py", lines.get(place, "")),
    )
    if place.endswith("/") and place not in FILES:
        inside = {path.removeprefix(place) for path in lines if path.startswith(place)} - {"__init__.py"}
        folders = {path.split("/")[0] + "/" for path in inside if "/" in path}
        for name in [*sorted(folders), *sorted(path for path in inside if "/" not in path)]:
            yield from _rows(place + name, lines, depth + 1)


def page() -> str:
    """The text of docs/house.md."""
    leaves = ", ".join(f"`{name}`" for name in sorted(LEAVES))
    return TEXT.format(leaves=leaves, picture=picture(), tree=tree())


if __name__ == "__main__":
    print(page(), end="")
