"""The LoRAs of one request: they are read in order and one at a time, bounded together, and errors name their field."""

import weakref
from pathlib import Path

import pytest
from torch import Tensor

from longtake.errors import FileTooLarge, InvalidRequest
from longtake.models import loras
from longtake.models.lora_files import LoraSources
from longtake.models.lora_header import LoraHeader
from longtake.models.loras import Adapter, LoraCache, open_adapters, read, read_adapters
from longtake.models.registry import card
from longtake.settings import Settings
from longtake.video import Check
from tests.models import small
from tests.models.adapters import MODULE, applied_in_pass, comfy_lora, load_adapters, planned_lora


def test_loras_are_read_after_all_fit_and_freed_after_the_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[weakref.ref[Tensor]] = []

    def traced(path: Path, header: LoraHeader, check: Check, *, pinned: bool) -> Adapter:
        adapter = read(path, header, check)
        alive.append(weakref.ref(adapter.pairs[MODULE].a))
        return adapter

    monkeypatch.setattr(loras, "read", traced)
    for seed, name in enumerate("abc"):
        comfy_lora(tmp_path / name, seed=seed)
    comfy_lora(tmp_path / "wide", into=17)
    settings, transformer = Settings(loras_dir=tmp_path), small.transformer().bfloat16()
    planned = [planned_lora(name, index=index) for index, name in enumerate("abc")]
    with open_adapters(planned, card("ltxv-tiny"), settings) as opened:
        assert alive == []
        for one in opened:
            one.check_fit(transformer)
        with applied_in_pass(transformer, read_adapters(opened, LoraCache(0))):
            assert len(alive) == 3
        assert [one for one in alive if one() is not None] == []
    with open_adapters([*planned, planned_lora("wide", index=3)], card("ltxv-tiny"), settings) as opened:
        with pytest.raises(InvalidRequest, match="its change 16 x 17") as raised:
            opened[3].check_fit(transformer)
        assert raised.value.loc == ("body", "loras", 3, "path")


def test_the_loras_of_a_request_are_bounded_together(tmp_path: Path) -> None:
    sizes = [comfy_lora(tmp_path / name).stat().st_size for name in "abcde"]
    settings = Settings(loras_dir=tmp_path, max_lora_bytes=sizes[0])
    planned = [planned_lora(name, index=index) for index, name in enumerate("abcde")]
    with open_adapters(planned[:4], card("ltxv-tiny"), settings) as opened:
        assert len(opened) == 4
    words = f"up to this one have {sum(sizes)} bytes together; the limit is {4 * sizes[0]}"
    with pytest.raises(FileTooLarge, match=words) as raised, open_adapters(planned, card("ltxv-tiny"), settings):
        pass
    assert raised.value.loc == ("body", "loras", 4, "path")


def test_errors_name_the_field_of_the_lora(tmp_path: Path) -> None:
    settings, model = Settings(loras_dir=tmp_path), card("ltxv-tiny")
    comfy_lora(tmp_path / "good.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"not weights")
    cache = LoraCache(10**6)
    [(adapter, scales)] = load_adapters([planned_lora("good.safetensors", 0.4, 0.8)], model, settings, cache)
    assert (adapter.name, scales) == ("good.safetensors", (0.4, 0.8))
    assert adapter.loc == ("body", "loras", 0, "path")
    for path, reason in (
        ("bad.safetensors", "not a usable safetensors"),
        ("absent.safetensors", "There is no LoRA file"),
    ):
        with pytest.raises(InvalidRequest, match=reason) as raised:
            load_adapters([planned_lora("good.safetensors"), planned_lora(path, index=1)], model, settings, cache)
        assert raised.value.loc == ("body", "loras", 1, "path")
        assert raised.value.status == 422


def test_adapters_keep_the_plans_order_and_paths_outside_need_permission(tmp_path: Path) -> None:
    settings, model, cache = Settings(loras_dir=tmp_path / "loras"), card("ltxv-tiny"), LoraCache(10**6)
    elsewhere = comfy_lora(tmp_path / "elsewhere.safetensors", rank=3)
    folder = tmp_path / "loras" / "several"
    folder.mkdir(parents=True)
    comfy_lora(folder / "a.safetensors", rank=1)
    comfy_lora(folder / "b.safetensors", rank=2)
    planned = [
        planned_lora("several", weight_name="b.safetensors"),
        planned_lora(str(elsewhere), index=1),
        planned_lora("several", index=2, weight_name="a.safetensors"),
    ]
    loaded = load_adapters(planned, model, settings, cache, LoraSources(any_path=True))
    assert [adapter.pairs[MODULE].a.shape[0] for adapter, _ in loaded] == [2, 3, 1]
    with pytest.raises(InvalidRequest) as raised:
        load_adapters(planned, model, settings, cache)
    assert raised.value.loc == ("body", "loras", 1, "path")
