"""Headers of LoRA files: hostile ones take little time, and messages about them are short and printable."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.errors import BadCheckpoint
from longtake.models.lora_header import MAX_LORA_TENSORS, LoraHeader, read_lora_header
from tests.models.small import raw_file

ALPHAS = st.none() | st.integers(-3, 3) | st.floats(-3, 3)


def written(folder: Path, names: list[str], settings: Any = None, dtype: str = "F16") -> Path:
    """Writes a LoRA file whose tensors all have one value. `settings` are those that diffusers writes."""
    header: dict[str, Any] = {
        name: {"dtype": dtype, "shape": [1, 1], "data_offsets": [2 * place, 2 * place + 2]}
        for place, name in enumerate(names)
    }
    if settings is not None:
        header["__metadata__"] = {"lora_adapter_metadata": json.dumps(settings)}
    return raw_file(folder / "l.safetensors", json.dumps(header).encode(), bytes(2 * len(names)))


def pairs(*modules: str) -> list[str]:
    return [f"{module}.lora_{side}.weight" for module in modules for side in "AB"]


def read_quickly(path: Path) -> LoraHeader:
    """Reads a header. Fails if that takes more than two seconds of processor time."""
    started = time.process_time()
    try:
        return read_lora_header(path)
    finally:
        assert time.process_time() - started < 2


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["model." * 1_000_000 + "x.lora_A.weight"], "has 6000015 characters; the limit is 256"),
        (["lora_" * 1_000_000], "characters; the limit is 256"),
        (["." * 4_000_000], "characters; the limit is 256"),
        ([f"{place}.lora_A.weight" for place in range(MAX_LORA_TENSORS + 1)], "has 10001 tensors; the limit is 10000"),
        ([f"{place}" for place in range(MAX_LORA_TENSORS)], "10000 unknown keys: 0, 1, 2, 3 and others"),
        (pairs(*(f"m.{place}" for place in range(4000))), None),
        (["a\0\n\x1b[31m\u202e"], r"1 unknown key: a\\x00\\n\\x1b\[31m\\u202e\."),
        (["x" * 256, "y" * 256], rf"2 unknown keys: {'x' * 100}, {'y' * 100}\.$"),
    ],
    ids=["wrappers", "prefixes", "dots", "too many", "unknown", "many", "unprintable", "long"],
)
def test_hostile_names(tmp_path: Path, names: list[str], reason: str | None) -> None:
    path = written(tmp_path, names)
    if reason is None:
        assert len(read_quickly(path).keys) == len(names) // 2
        return
    with pytest.raises(BadCheckpoint, match=reason) as raised:
        read_quickly(path)
    assert len(raised.value.message) < 300
    assert raised.value.message.isprintable()


@pytest.mark.parametrize(
    ("modules", "settings", "reason"),
    [
        (
            [f"m.{place}" for place in range(2000)],
            {"alpha_pattern": {f"x{place}": 1 for place in range(60_000)}},
            None,
        ),
        ([".".join("a" * 110) + f".{place}" for place in range(2000)], {"alpha_pattern": {"a": 1}}, None),
        (["m"], {"lora_alpha": 10**4000}, "metadata about its LoRA that cannot be read"),
        (["m"], {"alpha_pattern": {"m": 10**400}}, "metadata about its LoRA that cannot be read"),
        (["m"], {"alpha_pattern": [[1]]}, "metadata about its LoRA that cannot be read"),
        (["m"], {"alpha_pattern": {"m": [1]}}, "metadata about its LoRA that cannot be read"),
        (["m"], [], "metadata about its LoRA that cannot be read"),
    ],
)
def test_hostile_settings(tmp_path: Path, modules: list[str], settings: Any, reason: str | None) -> None:
    path = written(tmp_path, pairs(*modules), settings)
    if reason is None:
        assert set(read_quickly(path).alphas.values()) == {None}
        return
    with pytest.raises(BadCheckpoint, match=reason):
        read_quickly(path)


NAMES = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(".".join)


@settings(max_examples=40)
@given(st.lists(NAMES, min_size=1, max_size=4, unique=True), st.dictionaries(NAMES, ALPHAS, max_size=4), ALPHAS)
def test_the_first_pattern_that_ends_a_modules_name_sets_its_alpha(
    tmp_path_factory: pytest.TempPathFactory, modules: list[str], patterns: dict[str, float | None], usual: float | None
) -> None:
    stored = {"alpha_pattern": {f"^{name}": alpha for name, alpha in patterns.items()}, "lora_alpha": usual}
    header = read_lora_header(written(tmp_path_factory.mktemp("l"), pairs(*modules), stored))
    for module in modules:
        fitting = (alpha for name, alpha in patterns.items() if f".{module}".endswith(f".{name}"))
        assert header.alphas[module] == next(fitting, usual)
