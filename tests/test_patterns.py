"""Every regular expression of the package reads a text in a time that grows as the text's length does.

A text that somebody else has written may be long, and a regular expression can need the square of its length, during
which no other thread runs. Each pattern is tried on long texts that repeat a part of what it matches.
"""

import ast
import itertools
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from re import _compiler, _parser  # type: ignore[attr-defined]
from types import ModuleType
from typing import Any

import pytest
from starlette.routing import compile_path

import longtake

LENGTH = 4000
"""Characters of a tried text. A quadratic pattern needs 20 ms of processor time or more for it, others about 0.1 ms."""
BOUND_S = 0.005
METHODS = ("match", "fullmatch", "search", "sub", "split")
BLANKS = (" ", "\n")

Items = Sequence[tuple[Any, Any]]
"""A parsed pattern, or a part of one: (operation, its arguments) for each item."""


def is_slow(pattern: re.Pattern[Any], method: str) -> bool:
    """Returns True if the pattern, used by one of METHODS, takes too long for any of the texts that are made for it."""
    apply = getattr(pattern, method if method in ("match", "fullmatch") else "search")
    for text in texts(pattern):
        given = text if isinstance(pattern.pattern, str) else text.encode("latin-1")
        if all(seconds(apply, given) > BOUND_S for _ in range(3)):
            return True
    return False


def seconds(apply: Callable[[Any], Any], text: str | bytes) -> float:
    """Returns the processor time of one call."""
    start = time.thread_time()
    apply(text)
    return time.thread_time() - start


def texts(pattern: re.Pattern[Any]) -> set[str]:
    """Returns texts that repeat a part of what the pattern matches, after its beginning and before a wrong end."""
    made = set()
    for items in groups(_parser.parse(pattern.pattern, pattern.flags)):
        runs = [list(run) for _, run in itertools.groupby(items, lambda item: str(item[0]) == "LITERAL" or id(item))]
        pieces = [piece for piece in map(sample, runs) if piece]
        for start in range(len(pieces)):
            parts = ["".join(pieces[start:end]) for end in range(start + 1, len(pieces) + 1)]
            for part in (*parts, *BLANKS):
                for before in ("", "".join(pieces[:start]), "".join(pieces[: start + 1])):
                    made.add(before + part * (LENGTH // len(part)) + "!")
                    made.add(before + part * (LENGTH // len(part)) + "\n")
    return made


def groups(items: Any) -> Iterator[Items]:
    """Yields all items of a parsed pattern, and those of each group, alternative and repetition in it."""
    if isinstance(items, _parser.SubPattern):
        yield items
    if isinstance(items, _parser.SubPattern | tuple | list):
        for item in items:
            yield from groups(item)


def sample(items: Items) -> str:
    """Returns a short text that the items of a parsed pattern match. Optional items and repetitions are in it once."""
    found = ""
    for operation, value in items:
        match str(operation):
            case "LITERAL":
                found += chr(value)
            case "ANY" | "IN" | "NOT_LITERAL":
                found += character((operation, value))
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                found += sample(value[2]) * max(1, int(value[0]))
            case "BRANCH":
                found += sample(value[1][0])
            case "SUBPATTERN":
                found += sample(value[3])
            case "ATOMIC_GROUP":
                found += sample(value)
            case "ASSERT" if value[0] < 0:
                found += sample(value[1])
    return found


def character(item: tuple[Any, Any]) -> str:
    """Returns a character that an item matches; `a` if it does, because other parts of a pattern often do, too."""
    one_item = _compiler.compile(_parser.SubPattern(_parser.State(), [item]))
    return next(one for one in ("a", *map(chr, range(1, 256)), "\u202a", "\ud800") if one_item.match(one))


def patterns() -> set[tuple[re.Pattern[Any], str]]:
    """Returns (pattern, method) for each pattern of the package and each method that is called on it.

    Patterns that a function makes of its own variables are not among them, but those that Starlette makes of the
    routes' paths are. A pattern in a tuple or dictionary is tried with `search`.
    """
    methods: dict[str, set[str]] = defaultdict(set)  # the pattern's name -> what is called on it
    named: list[tuple[str, re.Pattern[Any]]] = []
    found: set[tuple[re.Pattern[Any], str]] = set()
    root = Path(longtake.__file__).parents[1]
    for path in sorted(root.joinpath("longtake").rglob("*.py")):
        source = path.read_text()
        tree = ast.parse(source if re.search(r"\bre\.|Route\(|match\(", source) else "")
        module = cache(partial(import_module, ".".join(path.relative_to(root).with_suffix("").parts)))
        for node in ast.walk(tree):
            match node:
                case (
                    ast.Assign(targets=[ast.Name(name)], value=value)
                    | ast.AnnAssign(target=ast.Name(name), value=ast.Call() as value)
                ) if "re.compile(" in ast.unparse(value):
                    named += [(name, pattern) for pattern in compiled(getattr(module(), name))]
                case ast.Call(func=ast.Attribute(ast.Name("re"), method)) if method in METHODS:
                    found |= {(pattern, method) for pattern in written(node, module)}
                case ast.Call(func=ast.Attribute(owner, method)) if method in METHODS:
                    methods[ast.unparse(owner).rpartition(".")[2]].add(method)
                case ast.Call(func=ast.Name("Route"), args=[ast.Constant(str(route)), *_]):
                    found.add((compile_path(route)[0], "match"))
    return found | {(pattern, method) for name, pattern in named for method in methods[name] or ("search",)}


def compiled(value: Any) -> Iterator[re.Pattern[Any]]:
    """Yields a compiled pattern, or all that are in a tuple or dictionary."""
    match value:
        case re.Pattern():
            yield value
        case tuple():
            for item in value:
                yield from compiled(item)
        case dict():
            yield from compiled(tuple(value.items()))


def written(call: ast.Call, module: Callable[[], ModuleType]) -> list[re.Pattern[Any]]:
    """Returns the pattern that is the first argument of a call of the module `re`, if only constants are in it.

    `module` returns the module with the call. None of its constants are needed for most patterns.
    """
    text, *rest = call.args
    names = {} if isinstance(text, ast.Constant) else vars(module())
    try:
        pattern = eval(ast.unparse(text), dict(names))
    except NameError:  # it contains a variable of a function
        return []
    flags = [getattr(re, name) for one in rest for name in re.findall(r"\bre\.([A-Z]+)", ast.unparse(one))]
    return [re.compile(pattern, sum(flags))]


def test_every_pattern_is_linear() -> None:
    known = patterns()
    assert len(known) > 50
    assert [(pattern.pattern, method) for pattern, method in known if is_slow(pattern, method)] == []


@pytest.mark.parametrize(
    ("pattern", "method"),
    [
        (r"/(.+?)/requests/([^/]+)((?:/.*)?)", "fullmatch"),
        (r"([\w.+-]+/[\w.+-]+)?[\w=;. -]*base64,", "fullmatch"),
        (r"[A-Za-z0-9\s]+={0,2}\s*", "fullmatch"),
        (r"\s*$", "search"),
    ],
)
def test_a_quadratic_pattern_is_noticed(pattern: str, method: str) -> None:
    assert is_slow(re.compile(pattern), method)
