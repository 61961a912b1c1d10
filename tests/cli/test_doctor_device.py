"""What `longtake doctor` finds on GPUs: how models run on the device of the settings, and on those of all slots."""

from pathlib import Path

import pytest
import torch

from longtake.cli.doctor_device import device_findings, fitting_on, model_findings
from longtake.models import memory, placement
from longtake.models.registry import ModelCard
from longtake.models.vae_format import FormatKey
from longtake.settings import Settings
from tests.models import small_ltx2
from tests.models.cards import ltx2_card
from tests.simulated_gpu import can_simulate, simulated_gpus

pytestmark = pytest.mark.skipif(not can_simulate(), reason="GPUs are simulated by torch for CPUs alone")


def _text(card: ModelCard, settings: Settings) -> str:
    return model_findings(card, settings)[0].text


def test_a_text_encoder_in_8_bits_counts_as_it_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise it has no room on the GPU, and is streamed. Here it has Gemma's size."""
    card, gigabyte = ltx2_card("ltx-2.3"), 10**9
    small_ltx2.write_model(tmp_path / card.name)

    def large(_: object, __: object, mode: object, has_short_text: bool) -> dict[str, int]:
        return {"transformer": 10 * gigabyte, "text_encoder": (14 if has_short_text else 24) * gigabyte}

    monkeypatch.setattr(placement, "part_bytes", large)
    with simulated_gpus(monkeypatch, total=30 * gigabyte):
        settings = Settings(models_dir=tmp_path, model_sources={}, dtype="float32", device="cuda:1")
        assert "offload=group" in _text(card, settings)
        short = settings.model_copy(update={"quantise": "fp8"})
        assert "needs 24.0 GB in float32; cuda:1 has 30.0 GB free: offload=model" in _text(card, short)


def test_the_memory_format_of_a_vae_on_a_gpu_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card, name = ltx2_card("ltx-2.3"), "its VAE's memory format"
    small_ltx2.write_model(tmp_path / card.name)
    settings = Settings(models_dir=tmp_path, compiled_dir=tmp_path, model_sources={}, dtype="bfloat16", device="cpu")
    assert name not in {found.name for found in model_findings(card, settings)}
    with simulated_gpus(monkeypatch):
        found = model_findings(card, settings.model_copy(update={"device": "cuda:1"}))[1]
        assert (found.name, found.text) == (name, "measured when the model is loaded for the first time")
        path = FormatKey.of(card, torch.bfloat16, torch.device("cuda:1")).path(tmp_path)
        path.write_text('{"format": "channels last"}')
        found = model_findings(card, settings.model_copy(update={"device": "cuda:1"}))[1]
        assert (found.name, found.text) == (name, f"channels last, as {path} says")


def test_devices_that_work_together_are_explained_and_need_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card, gigabyte = ltx2_card("ltx-2.3"), 10**9
    small_ltx2.write_model(tmp_path / card.name)
    monkeypatch.setattr(placement, "part_bytes", lambda *_, **__: {"transformer": 38 * gigabyte, "vae": gigabyte})
    chosen = Settings(models_dir=tmp_path, model_sources={}, dtype="float32", device="cuda:0+cuda:1")
    with simulated_gpus(monkeypatch, total=48 * gigabyte):
        found = {one.name: one.text for one in device_findings(chosen)}
        assert found["chosen"].startswith("cuda:0 and cuda:1 (LONGTAKE_DEVICE=cuda:0+cuda:1)")
        assert "a distilled LTX-Video model needs 1, so only the first device works" in found["together"]
        assert "everything stays on it" in _text(card, chosen)
        monkeypatch.setattr(
            torch.cuda, "mem_get_info", lambda device: ((48, 1)[device.index] * gigabyte, 48 * gigabyte)
        )
        (finding,) = model_findings(card, chosen)[:1]
        assert (finding.state, "cuda:1 has no room for a copy of the transformer" in finding.text) == ("no", True)


def test_devices_that_work_together_stream_no_transformer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "host_memory", lambda: None)  # as where the system does not say it
    with simulated_gpus(monkeypatch, total=24 * 10**9):
        one, together = (
            {each.name: each.text for each in fitting_on(Settings(device=device))}["LTX-2.3"]
            for device in ("cuda:0", "cuda:0+cuda:1")
        )
    assert "its transformer and its text encoder are streamed" in one
    assert "must hold the whole transformer" in together


def test_the_devices_of_all_slots_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the setting `device` names another one. Slots on one GPU share it, and a missing GPU is named."""
    card, gigabyte = ltx2_card("ltx-2.3"), 10**9
    small_ltx2.write_model(tmp_path / card.name)
    sizes = {"transformer": 20 * gigabyte, "text_encoder": gigabyte}
    monkeypatch.setattr(placement, "part_bytes", lambda *_, **__: sizes)
    monkeypatch.setattr(memory, "host_memory", lambda: None)
    slots = ("auto", "cuda:1", "cuda:1@small", "cuda:2")
    chosen = Settings(models_dir=tmp_path, model_sources={}, dtype="float32", device="cuda:0", slots=slots)
    with simulated_gpus(monkeypatch, total=48 * gigabyte):
        found = list(device_findings(chosen))
        told = {one.name: one.text for one in found}
        assert told["chosen"].startswith("cuda:0 (LONGTAKE_DEVICE=cuda:0), ")
        of_slots = [(one.state, one.text.split("), ")[0]) for one in found if one.name == "slot"]
        assert of_slots[0] == ("ok", "cuda:1 (a slot of LONGTAKE_SLOTS")
        assert of_slots[1] == ("no", "of LONGTAKE_SLOTS: The device cuda:2 is not on this machine; it has cuda, cpu.")
        assert told["shared"] == "2 slots use it, and each plans for 24.0 GB of its memory"
        fits = {one.name: one.text for one in fitting_on(chosen)}
        assert "13B on cuda:0" in str(fits)
        assert fits["LTX-Video 13B on cuda:0"] != fits["LTX-Video 13B on cuda:1"]
        models = {one.name: one.text for one in model_findings(card, chosen)}
        assert "everything stays on it" in models[card.name]
        assert "cuda:1 has 24.0 GB free: offload=group" in models[f"{card.name} on cuda:1"]
        alike = chosen.model_copy(update={"slots": ("cuda:0", "cuda:1")})
        assert {one.name for one in fitting_on(alike)} == {"LTX-Video 13B", "LTX-2.3"}, "GPUs of one kind, one row"
