"""Random headers of safetensors files are read as the library reads them, or refused in a short sentence."""

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from longtake.models.lora_header import read_lora_header
from longtake.models.loras import read
from longtake.models.safe import Header, read_header
from tests.fuzz.mutants import NUMBERS, mutated, refusal, seeded, with_other_value
from tests.models.small import raw_file

DATA = bytes(64)
NAMES = (
    *(
        "transformer.a.lora_A.weight",
        "transformer.a.lora_B.weight",
        "transformer.a.alpha",
        "lora_unet_a_b.lora_down.weight",
    ),
    *("lora_unet_a_b.lora_up.weight", "a.diff", "text_encoder.a.lora_A.weight", "", "\0", "\u202e", "model." * 40),
)


def header(draw: random.Random) -> dict[str, Any]:
    """Returns the header of a file, sound but for random sizes, dtypes and settings."""
    entries: dict[str, Any] = {}
    offset = 0
    for name in draw.sample(NAMES, draw.randint(1, 5)):
        shape = [draw.choice((0, 1, 2, 4)) for _ in range(draw.choice((0, 1, 2, 2, 2, 9)))]
        if draw.random() < 0.1:
            shape.append(draw.choice(NUMBERS))
        end = offset + draw.choice((0, 4, 8, 16))
        dtype = draw.choice(("F32", "F16", "BF16", "F8_E4M3", "I64", "BOOL", "F4", "X"))
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    settings: dict[str, Any] = {
        "lora_alpha": draw.choice((1, None, 10**400, "x", [])),
        "alpha_pattern": draw.choice(({}, {"a": 2}, [], {"a": {}})),
    }
    if draw.random() < 0.5:
        entries["__metadata__"] = {"lora_adapter_metadata": json.dumps(settings)}
    return entries


def check(draw: random.Random, folder: Path) -> None:
    document = header(draw)
    if draw.random() < 0.5:
        document = with_other_value(draw, document)
    raw = json.dumps(document, ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass")
    if draw.random() < 0.5:
        raw = mutated(draw, raw)
    data = DATA[: draw.choice((0, 8, 16, 64))]
    length = draw.choice((*NUMBERS, len(raw) + 1, len(raw) - 1)) if draw.random() < 0.1 else len(raw)
    path = raw_file(folder / "x.safetensors", raw, data, length=max(length, 0))
    started = time.process_time()
    found: list[Header] = []
    refusal(lambda: found.append(read_header(path)))
    for whole in found:
        with safe_open(path, "numpy") as library:
            shapes = {name: tuple(library.get_slice(name).get_shape()) for name in library.offset_keys()}
        assert shapes == {name: info.shape for name, info in whole.tensors.items()}
    refused = refusal(lambda: read_lora_header(path), 1500)
    assert found or refused
    assert refusal(lambda: read(path), 1500) or not refused
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    "seeds", [range(150), pytest.param(range(150, 50_000), marks=pytest.mark.soak)], ids=["short", "long"]
)
def test_random_headers(tmp_path: Path, seeds: range) -> None:
    for seed in seeds:
        with seeded(seed) as draw:
            check(draw, tmp_path)
