"""`longtake doctor`: what it finds, and that no finding ends it with an error."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from longtake.cli import app
from longtake.cli.doctor import Report, examine, masked
from longtake.cli.findings import Finding
from longtake.media import confinement
from longtake.models.registry import CARDS, missing
from longtake.settings import Settings

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
