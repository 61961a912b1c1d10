"""`longtake doctor`: what it finds, and that no finding ends it with an error."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from longtake.cli import app
from longtake.cli.doctor import Finding, Report, _device, _fitting, _installed, _model, examine, masked
from longtake.media import confinement
from longtake.models import memory, parts
from longtake.models.registry import CARDS, missing
from longtake.models.vae_format import FormatKey
from longtake.settings import Settings
from tests.models import small_ltx2
from tests.models.cards import ltx2_card
from tests.simulated_gpu import can_simulate, simulated_gpus

SECRET = "hf_0123456789"


def settings(folder: Path, **values: Any) -> Settings:
    return Settings(models_dir=folder / "models", loras_dir=folder / "loras", **values)


def finding(report: Report, section: str, name: str) -> Finding:
    return next(finding for finding in report.sections[section] if finding.name == name)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("doctor")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LONGTAKE_THREDS", SECRET)
        address = f"https://me:{SECRET}@host/v1"
        return examine(settings(folder, hf_token=SECRET, expansion_url=address, expansion_model="m"))


def test_every_codec_is_tested(report: Report) -> None:
    tested = {finding.name: finding.state for finding in report.sections["Files that can be written"]}
    assert tested == {".mp4": "ok", ".webm": "ok", ".mov": "ok", ".gif": "ok"}


def test_the_device_and_its_dtype_are_reported(report: Report) -> None:
    chosen = finding(report, "Device", "chosen")
    assert chosen.state == "ok"
    assert "LONGTAKE_DEVICE=auto" in chosen.text
    assert "float32 for the embedded model" in chosen.text
    assert finding(report, "Device", "compiled blocks").text.startswith(("yes: ", "no: "))


def test_the_enforced_limits_of_the_sandbox_are_reported(report: Report) -> None:
    assert finding(report, "Reading sources", "memory").text.startswith("at most")
    assert finding(report, "Reading sources", "rights").state == "ok"
    for name, text in (("files", "open none"), ("network", "use none"), ("programs", "start none")):
        found = finding(report, "Reading sources", name)
        assert found.state == ("ok" if confinement.support().seccomp else "note")
        assert (text if confinement.support().seccomp else "not limited") in found.text
    assert finding(report, "Reading sources", "means").text == str(confinement.support())


def test_a_missing_model_comes_with_the_command_that_fetches_it(report: Report) -> None:
    assert "longtake models pull" in finding(report, "Models", "ltxv-13b-0.9.7-dev").text


def test_a_misspelt_setting_is_reported(report: Report) -> None:
    found = finding(report, "Settings", "LONGTAKE_THREDS")
    assert (found.state, found.text.split("; ")[1]) == ("no", "perhaps LONGTAKE_THREADS is meant")


def test_secrets_are_masked_and_changed_settings_are_marked(report: Report) -> None:
    assert SECRET not in json.dumps(report.to_json())
    assert "(set)" in finding(report, "Settings", "LONGTAKE_HF_TOKEN").text
    assert "(set)" not in finding(report, "Settings", "LONGTAKE_DTYPE").text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("https://host/v1", "https://host/v1"),
        ("https://me:secret@host:80/v1", "https://***@host:80/v1"),
        (None, "-"),
        (3, "3"),
    ],
)
def test_addresses_are_shown_without_their_credentials(value: object, expected: str) -> None:
    assert masked(value) == expected


def test_a_folder_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    report = examine(Settings(models_dir=tmp_path / "file" / "models", loras_dir=tmp_path))
    assert finding(report, "Folders", "models").state == "no"
    assert finding(report, "Folders", "LoRAs").state == "ok"


def test_with_a_missing_device_nothing_runs(tmp_path: Path) -> None:
    report = examine(settings(tmp_path, device="cuda:63"))
    assert "is not on this machine" in finding(report, "Device", "device").text
    assert not report.runs


def test_a_damaged_embedded_model_is_reported_and_nothing_runs(tmp_path: Path) -> None:
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer" / "config.json").write_text("{")
    report = examine(settings(tmp_path, model_sources={"ltxv-tiny": str(tmp_path)}))
    assert finding(report, "Models", "ltxv-tiny").state == "no"
    assert not report.runs


def test_the_exit_status_is_0_if_the_embedded_model_runs_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGTAKE_MODELS_DIR", str(tmp_path))
    runs = not any(missing(model, Settings()) for model in CARDS.values() if model.embedded)
    ran = CliRunner().invoke(app, ["doctor", "--json"])
    document = json.loads(ran.stdout)
    assert (document["runs"], ran.exit_code) == (runs, 0 if runs else 1)
    text = CliRunner().invoke(app, ["doctor"]).stdout
    assert text.splitlines()[-1].startswith("The embedded model runs" if runs else "The embedded model cannot run")


@pytest.mark.skipif(not can_simulate(), reason="GPUs are simulated by torch for CPUs alone")
def test_a_text_encoder_in_8_bits_counts_as_it_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise it has no room on the GPU, and is streamed. Here it has Gemma's size."""
    card, gigabyte = ltx2_card("ltx-2.3"), 10**9
    small_ltx2.write_model(tmp_path / card.name)

    def large(*_: object, has_short_text: bool = False) -> dict[str, int]:
        return {"transformer": 10 * gigabyte, "text_encoder": (14 if has_short_text else 24) * gigabyte}

    monkeypatch.setattr(parts, "part_bytes", large)
    with simulated_gpus(monkeypatch, total=30 * gigabyte):
        settings = Settings(models_dir=tmp_path, model_sources={}, dtype="float32", device="cuda:1")
        assert "offload=group" in _installed(card, settings).text
        short = settings.model_copy(update={"quantise": "fp8"})
        assert "needs 24.0 GB in float32; cuda:1 has 30.0 GB free: offload=model" in _installed(card, short).text


@pytest.mark.skipif(not can_simulate(), reason="GPUs are simulated by torch for CPUs alone")
def test_the_memory_format_of_a_vae_on_a_gpu_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card, name = ltx2_card("ltx-2.3"), "its VAE's memory format"
    small_ltx2.write_model(tmp_path / card.name)
    settings = Settings(models_dir=tmp_path, compiled_dir=tmp_path, model_sources={}, dtype="bfloat16", device="cpu")
    assert name not in {found.name for found in _model(card, settings)}
    with simulated_gpus(monkeypatch):
        found = _model(card, settings.model_copy(update={"device": "cuda:1"}))[1]
        assert (found.name, found.text) == (name, "measured when the model is loaded for the first time")
        path = FormatKey.of(card, torch.bfloat16, torch.device("cuda:1")).path(tmp_path)
        path.write_text('{"format": "channels last"}')
        found = _model(card, settings.model_copy(update={"device": "cuda:1"}))[1]
        assert (found.name, found.text) == (name, f"channels last, as {path} says")


@pytest.mark.skipif(not can_simulate(), reason="GPUs are simulated by torch for CPUs alone")
def test_devices_that_work_together_are_explained_and_need_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card, gigabyte = ltx2_card("ltx-2.3"), 10**9
    small_ltx2.write_model(tmp_path / card.name)
    monkeypatch.setattr(parts, "part_bytes", lambda *_, **__: {"transformer": 38 * gigabyte, "vae": gigabyte})
    chosen = Settings(models_dir=tmp_path, model_sources={}, dtype="float32", device="cuda:0+cuda:1")
    with simulated_gpus(monkeypatch, total=48 * gigabyte):
        found = {one.name: one.text for one in _device(chosen)}
        assert found["chosen"].startswith("cuda:0 and cuda:1 (LONGTAKE_DEVICE=cuda:0+cuda:1)")
        assert "a distilled LTX-Video model needs 1, so only the first device works" in found["together"]
        assert "everything stays on it" in _installed(card, chosen).text
        monkeypatch.setattr(
            torch.cuda, "mem_get_info", lambda device: ((48, 1)[device.index] * gigabyte, 48 * gigabyte)
        )
        (finding,) = _model(card, chosen)[:1]
        assert (finding.state, "cuda:1 has no room for a copy of the transformer" in finding.text) == ("no", True)


@pytest.mark.skipif(not can_simulate(), reason="GPUs are simulated by torch for CPUs alone")
def test_devices_that_work_together_stream_no_transformer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "host_memory", lambda: None)  # as where the system does not say it
    with simulated_gpus(monkeypatch, total=24 * 10**9):
        one, together = (
            {each.name: each.text for each in _fitting(Settings(device=device))}["LTX-2.3"]
            for device in ("cuda:0", "cuda:0+cuda:1")
        )
    assert "its transformer and its text encoder are streamed" in one
    assert "must hold the whole transformer" in together
