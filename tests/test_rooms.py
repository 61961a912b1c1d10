"""The house: which room may import which, no circles between modules, and the names that its vocabulary forbids."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import longtake
from tests.house import parsed

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
    ("warming",),
    ("parameters",),
    ("runner",),
    ("output",),
    ("prepare",),
    ("planning",),
    ("endpoints", "plan_text"),
    ("derived",),
    ("families",),
    ("sampling",),
    ("models",),
    ("plans",),
    ("inspect",),
    ("carried",),
    ("media",),
    ("database",),
    ("prompts", "safety", "outbound", "private", "temporary"),
    ("network_streams",),
    ("settings", "shim", "threads", "turn"),
    (
        "video",
        "atomic",
        "clock",
        "flow",
        "imports",
        "periodic",
        "device_setting",
        "price_setting",
        "processes",
    ),
    ("deferred_modules", "errors", "host_memory", "system", "version"),
    ("printable",),
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

PARALLEL_CLASSES = {"BlockInputs", "EncodedPrompt"}
"""Classes that the models of each family have, outside these rooms."""

COVERED_IN = {
    "cli.command": "cli/test_options.py",
    "cli.requests": "cli/test_refusals.py",
    "cli.results": "cli/test_extend.py",
    "cli.serve": "service/test_server.py",
    "database.secret": "access/test_tokens.py",
    "database.tables": "database/test_migrate.py",
    "derived.order": "derived/test_process.py",
    "derived.place": "derived/test_joint.py",
    "derived.program": "derived/test_process.py",
    "endpoints.body_check": "service/test_bodies.py",
    "endpoints.endpoint": "endpoints/test_every_endpoint.py",
    "endpoints.fields": "test_parameters.py",
    "endpoints.ltx2": "endpoints/test_ltx23.py",
    "endpoints.ltxv": "endpoints/test_requests.py",
    "endpoints.ltxv097": "endpoints/test_requests.py",
    "endpoints.ltxv097_dev": "endpoints/test_ltxv097_two_pass.py",
    "endpoints.ltxv097_distilled": "endpoints/test_ltxv097_two_pass.py",
    "endpoints.ltxv098": "endpoints/test_requests.py",
    "families.family": "endpoints/test_made_up.py",
    "families.ltx2.conditioning": "families/ltx2/test_generate.py",
    "families.ltx2.decoding": "families/ltx2/test_generate.py",
    "families.ltx2.describe": "cli/test_plans.py",
    "families.ltx2.options": "endpoints/test_ltx23.py",
    "families.ltxv.describe": "cli/test_plans.py",
    "families.ltxv.options": "endpoints/test_requests.py",
    "families.ltxv.profiles": "families/ltxv/test_generate.py",
    "families.ltxv.sampler": "families/ltxv/test_generate.py",
    "inspect.report": "cli/test_inspection.py",
    "media.child_errors": "media/test_sandbox.py",
    "media.decode_server": "media/test_source.py",
    "media.limits": "media/test_sandbox.py",
    "media.movie": "media/test_encode.py",
    "media.packets": "media/test_probe.py",
    "media.webp": "media/test_probe.py",
    "models.audiovisual_block": "models/test_audiovisual.py",
    "models.adapted_layer": "models/test_applying.py",
    "models.layout": "models/test_layouts.py",
    "models.layout_ltx2": "models/test_checkpoints_ltx2.py",
    "models.layout_ltx2_sound": "models/test_checkpoints_ltx2.py",
    "models.pulling": "service/test_pulls.py",
    "models.parts": "families/ltxv/test_model.py",
    "models.text_encoders": "models/test_checkpoints_ltx2.py",
    "models.transformer_keys": "models/test_layout_ltxv.py",
    "models.video_block": "models/test_compiled.py",
    "models.video_transformer": "families/ltxv/test_oracle.py",
    "plan_text": "cli/test_plans.py",
    "planning": "test_prepare.py",
    "price_setting": "endpoints/test_tariff.py",
    "queue.requests": "queue/test_engine.py",
    "queue.rows": "queue/test_engine.py",
    "runner": "test_runner_ltxv.py",
    "sampling.levels": "sampling/test_schedules.py",
    "service.download": "service/test_files.py",
    "service.imports": "service/test_plans.py",
    "service.ports": "service/test_connections.py",
    "service.responses": "service/test_app.py",
    "service.tls_server": "service/test_tunnel.py",
    "service.uploads": "service/test_files.py",
    "service.usage": "service/test_platform.py",
    "shim.sitecustomize": "service/test_client_env.py",
    "storage.legacy": "test_upgrade.py",
    "storage.local": "storage/test_blobs.py",
    "worker.attempt": "worker/test_slots.py",
    "worker.context": "worker/test_slots.py",
    "worker.places": "worker/test_fetching.py",
    "worker.outcomes": "worker/test_slots.py",
    "worker.progress": "worker/test_main.py",
    "worker.slot": "worker/test_slots.py",
    "worker.supervisor": "worker/test_slots.py",
    "worker.work_folders": "worker/test_kills.py",
}
"""The test files that cover modules without a test file of their own name, below `tests/`."""

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in sorted(ROOT.rglob("*.py"))
    if "versions" not in path.parts
}
NAMES = {f"longtake.{name}" for name in MODULES}


def trees() -> Mapping[str, ast.Module]:
    """The parsed modules by their names. They are parsed in the first test, because every worker of pytest imports this
    file."""
    return {name: parsed(path) for name, path in MODULES.items()}


def imports_of(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yields each module of the package that a file imports or names in a string, and the line.

    Imports inside functions and for types count too.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "longtake":
                    yield module_of(alias.name), node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: a relative import; name the module in full"
            if node.module and node.module.split(".")[0] == "longtake":
                for alias in node.names:
                    yield module_of(f"{node.module}.{alias.name}"), node.lineno
        elif isinstance(node, ast.Constant) and node.value in NAMES:
            yield module_of(node.value), node.lineno  # for import_module, or to start a process


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
        for module, tree in trees().items()
        for target, line in imports_of(tree)
        if room_of(target) != room_of(module) and floor_of(room_of(target)) <= floor_of(room_of(module))
    ]
    assert not upwards


def test_no_modules_import_each_other_in_a_circle() -> None:
    below: dict[str, set[str]] = defaultdict(set)
    for name, tree in trees().items():
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
        "g = 'longtake.queue.engine'\n"
    )
    assert list(imports_of(tree)) == [("runner", 3), ("media.encode", 5), ("queue.engine", 6)]


def test_a_relative_import_is_refused() -> None:
    with pytest.raises(AssertionError, match="line 1: a relative import"):
        list(imports_of(ast.parse("from ..queue import engine")))


def test_no_name_has_a_word_of_the_private_vocabulary() -> None:
    names = [
        (f"{module}, line {line}", name)
        for module, tree in trees().items()
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
    for module, tree in trees().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name not in PARALLEL_CLASSES:
                places[node.name].append(module)
    for name, modules in places.items():
        if {room_of(module) for module in modules} <= PARALLEL_ROOMS:
            continue
        assert len(modules) == 1, f"{name} is a class in {', '.join(modules)}"


def test_every_module_has_a_docstring_and_every_file_at_most_400_lines() -> None:
    root = Path(__file__).parents[1]
    files = [
        path for folder in ("src", "tests", "recipes", "bench", "examples") for path in (root / folder).rglob("*.py")
    ]
    assert not [name for name, tree in trees().items() if tree.body and not ast.get_docstring(tree)]
    assert not [path.name for path in files if len(path.read_text(encoding="utf-8").splitlines()) > 400]


def test_every_module_has_a_test_file_of_its_name_or_is_covered_by_another() -> None:
    tests = Path(__file__).parent
    for module in MODULES:
        *rooms, name = module.split(".")
        if name in ("__init__", "__main__", "version") or "migrations" in rooms:
            continue
        has_own = tests.joinpath(*rooms, f"test_{name}.py").is_file()
        assert has_own != (module in COVERED_IN), f"{module}: a test file of its name, or a line in COVERED_IN"
    assert not [module for module in COVERED_IN if module not in MODULES]
    assert not [module for module, file in COVERED_IN.items() if not (tests / file).is_file()]
