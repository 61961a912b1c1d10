"""LoRA files of both published styles are read, others are refused, and what was read is kept for later requests."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from longtake.errors import BadCheckpoint, Cancelled
from longtake.models import loras
from longtake.models.lora_downloads import mark_used
from longtake.models.lora_files import LoraFile, LoraSources
from longtake.models.lora_header import MAX_HEADER_BYTES, LoraHeader, read_lora_header
from longtake.models.loras import Adapter, LoraCache, read
from longtake.models.registry import card
from longtake.settings import Settings
from longtake.video import Check
from tests.conftest import load_case
from tests.models import small
from tests.models.adapters import MODULE, comfy_lora, load_adapters, low_rank_pair, planned_lora, write_lora


def test_the_published_names_are_converted_as_the_oracle_says(oracle: Path) -> None:
    case = load_case(oracle, "lora_ltxv")
    for file, names in case.document["converted_keys"].items():
        expected = {re.sub(r"^transformer\.(.*)\.lora_[AB]\.weight$", r"\1", name) for name in names.values()}
        assert read(case.root / case.name / file).pairs.keys() == expected


def test_the_alpha_of_the_metadata_counts(tmp_path: Path) -> None:
    a, b = low_rank_pair(rank=4)
    tensors = {f"transformer.{MODULE}.lora_A.weight": a, f"transformer.{MODULE}.lora_B.weight": b}
    stored: Any = {"transformer.r": 4, "transformer.lora_alpha": 8}
    adapter = read(write_lora(tmp_path / "l", tensors, lora_adapter_metadata=stored))
    assert adapter.pairs[MODULE].factor == 2
    stored |= {"transformer.alpha_pattern": {"attn1.to_k": 3, "n1.to_q": 2, "attn1.to_q": 1}}
    adapter = read(write_lora(tmp_path / "l", tensors, lora_adapter_metadata=stored))
    assert adapter.pairs[MODULE].factor == 1 / 4
    with pytest.raises(BadCheckpoint, match=r"has \d+ characters of metadata about its LoRA; the limit is 1048576"):
        read(write_lora(tmp_path / "l", tensors, lora_adapter_metadata={"x": "y" * 2**20}))
    for stored in ({"use_dora": True}, {"use_rslora": True}, {"lora_alpha": "x"}, {"alpha_pattern": 3}, [1]):
        with pytest.raises(BadCheckpoint):
            read(write_lora(tmp_path / "l", tensors, lora_adapter_metadata=stored))


A, B = f"diffusion_model.{MODULE}.lora_A.weight", f"diffusion_model.{MODULE}.lora_B.weight"
ALPHA = f"diffusion_model.{MODULE}.alpha"


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({A: torch.ones(2, 16)}, rf"one half of 1 pair: {re.escape(MODULE)}"),
        ({A: torch.ones(2, 16), B: torch.ones(16, 3)}, r"A \[2, 16\] and B \[16, 3\] .* do not multiply"),
        ({A: torch.ones(2, 16, 3), B: torch.ones(16, 2)}, "do not multiply"),
        ({A: torch.ones(0, 16), B: torch.ones(16, 0)}, "do not multiply"),
        ({A: torch.full((2, 16), torch.nan), B: torch.ones(16, 2)}, "not finite"),
        ({A: torch.ones(2, 16, dtype=torch.int64), B: torch.ones(16, 2)}, "dtype I64; it must be a float"),
        ({A: torch.ones(2, 16), B: torch.ones(16, 2), "diffusion_model.x.diff": torch.ones(1)}, r"x\.diff"),
        ({A: torch.ones(2, 16), B: torch.ones(16, 2), "text_encoder.x.lora_A.weight": torch.ones(1)}, "text_encoder"),
        ({A: torch.ones(2, 16), A.replace("lora_A", "lora_down"): torch.ones(2, 16)}, "the same one"),
        ({A: torch.ones(2, 16), B: torch.ones(16, 2), ALPHA: torch.ones(2)}, r"alpha of shape \[2\]; it must be one"),
        ({A: torch.ones(2, 16), B: torch.ones(16, 2), ALPHA: torch.tensor(True)}, "dtype BOOL"),
        ({"model.diffusion_model.proj_in.weight": torch.ones(1)}, "a model's own weights, not a LoRA"),
        ({}, "no pair"),
    ],
)
def test_files_that_are_no_lora_are_refused(tmp_path: Path, tensors: dict[str, Tensor], reason: str) -> None:
    with pytest.raises(BadCheckpoint, match=reason):
        read(write_lora(tmp_path / "l", tensors))


def test_an_alpha_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    tensors = {A: torch.ones(2, 16), B: torch.ones(16, 2), ALPHA: torch.tensor(torch.inf)}
    with pytest.raises(BadCheckpoint, match="not finite"):
        read(write_lora(tmp_path / "l", tensors))


def test_a_header_far_larger_than_any_lora_has_is_refused(tmp_path: Path) -> None:
    small.raw_file(tmp_path / "l", b"{" + b" " * (MAX_HEADER_BYTES + 8) + b"}")
    with pytest.raises(BadCheckpoint, match="the limit is 8388608"):
        read(tmp_path / "l")


def test_a_pickled_lora_is_refused(tmp_path: Path) -> None:
    torch.save({A: torch.ones(2, 16)}, tmp_path / "l.safetensors")
    with pytest.raises(BadCheckpoint, match="pickle"):
        read(tmp_path / "l.safetensors")


def test_a_repeated_lora_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []

    def counted(path: Path, header: LoraHeader, check: Check, *, pinned: bool) -> Adapter:
        reads.append(path)
        return read(path, header, check)

    monkeypatch.setattr(loras, "read", counted)
    paths = [comfy_lora(tmp_path / name, seed=seed) for seed, name in enumerate("abc")]
    headers = [read_lora_header(path) for path in paths]
    cache = LoraCache(2 * read(paths[0]).num_bytes)
    for index in (0, 0, 1, 0, 2, 0):
        assert mark_used(paths[index])
        cache.read(LoraFile(paths[index], "l"), headers[index])
    assert reads == paths
    cache.read(LoraFile(paths[1], "l"), headers[1])
    assert reads == [*paths, paths[1]]
    before = load_file(paths[1])
    for changed in ({name: tensor[:1] for name, tensor in before.items()}, {"x": before[A]}):
        save_file(changed, paths[1])
        with pytest.raises(BadCheckpoint, match="b was changed while the request ran"):
            cache.read(LoraFile(paths[1], "l"), headers[1])


@pytest.mark.parametrize(("room", "asked", "is_pinned"), [(1.0, True, True), (0.1, True, False), (1.0, False, False)])
def test_adapters_that_the_cache_keeps_are_pinned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: float, asked: bool, is_pinned: bool
) -> None:
    """Without a GPU there is no pinned memory, so this only checks that it is asked for."""
    pins, empty = list[bool](), torch.empty

    def counted(*shape: int, pin_memory: bool = False, **options: Any) -> Tensor:
        pins.append(pin_memory)
        return empty(*shape, **options)

    monkeypatch.setattr(torch, "empty", counted)
    path = comfy_lora(tmp_path / "l", rank=8)
    assert mark_used(path)
    cache = LoraCache(int(room * path.stat().st_size))
    adapter = cache.read(LoraFile(path, "l"), read_lora_header(path), pinned=asked)
    assert pins == [is_pinned] * 2
    assert torch.equal(adapter.pairs[MODULE].a, low_rank_pair(8)[0])


def test_a_file_is_read_in_pieces_and_the_reading_can_be_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loras, "PIECE_VALUES", 7)
    path, checks = comfy_lora(tmp_path / "l", rank=5), list[int]()
    read(path, None, lambda: checks.append(1))
    assert len(checks) == 2 * -(-5 * 16 // 7)
    assert torch.equal(read(path).pairs[MODULE].a, low_rank_pair(5)[0])
    assert torch.equal(read(path).pairs[MODULE].b, low_rank_pair(5)[1])
    a, b = low_rank_pair(5)
    b[-1, -1] = torch.inf
    write_lora(path, {f"diffusion_model.{MODULE}.lora_A.weight": a, f"diffusion_model.{MODULE}.lora_B.weight": b})
    with pytest.raises(BadCheckpoint, match="not finite"):
        read(path)

    def cancel() -> None:
        raise Cancelled

    settings, cache = Settings(loras_dir=tmp_path), LoraCache(10**6)
    with pytest.raises(Cancelled):
        load_adapters([planned_lora("l")], card("ltxv-tiny"), settings, cache, LoraSources(check=cancel))
