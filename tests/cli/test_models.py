"""`longtake models`: list, pull and check (tests/models covers downloads), and the data folder of every command."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from longtake.cli import models
from tests.cli.running import run
from tests.models.stand_in_hub import Hub, serving

NAME = "ltxv-13b-0.9.7-dev"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with files of the right names, and a limit so low that their download is asked about."""
    names = (f"{NAME}.safetensors", "ltxv-spatial-upscaler-0.9.7.safetensors", "text_encoder/model.safetensors")
    files = {name: name.encode() * 20 for name in (*names, "tokenizer/spiece.model")}
    with serving(Hub({"Lightricks/LTX-Video": files})) as running:
        monkeypatch.setenv("LONGTAKE_MODELS_DIR", str(tmp_path / "models"))
        monkeypatch.setenv("LONGTAKE_HF_ENDPOINT", running.url)
        monkeypatch.setattr(models, "ASK_FROM_BYTES", 1000)
        yield running


def test_a_large_pull_without_a_terminal_needs_the_option_yes(hub: Hub, tmp_path: Path) -> None:
    ran = run("models", "pull", NAME)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.splitlines()[-1].endswith("give --yes.")
    assert not (tmp_path / "models").exists()
    ran = run("models", "pull", NAME, "--yes")
    assert (ran.status, ran.out) == (0, f"{NAME} is complete.\n"), ran.err
    assert any((tmp_path / "models").rglob(f"{NAME}.safetensors"))


def test_a_small_pull_is_not_asked_about(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "ASK_FROM_BYTES", 10**9)
    assert run("models", "pull", NAME).status == 0


def test_a_check_ends_with_what_to_do(model: str, clips: Path) -> None:
    assert run("models", "check", model).out.splitlines()[-1] == "Everything fits."
    assert "again from where they came from" in run("models", "check", clips / "other.safetensors").out
    assert f"`longtake models pull {NAME}`" in run("models", "check", NAME).out


def test_list_shows_every_model() -> None:
    listed = {model["name"]: model for model in run("models", "list", "--json").document}
    assert {"ltxv-tiny", "ltxv-13b-0.9.7-dev", "ltxv-13b-0.9.8-distilled"} <= listed.keys()
    assert "ltxv-tiny" in run("models", "list").out


def test_check_reports_if_the_files_fit(model: str, clips: Path) -> None:
    ran = run("models", "check", model, "--json")
    assert (ran.status, ran.document["fits"]) == (0, True)
    ran = run("models", "check", clips / "other.safetensors", "--json")
    assert (ran.status, ran.document["fits"]) == (1, False)


@pytest.mark.parametrize("command", [["keys", "list"], ["doctor"], ["models", "list"]])
def test_every_command_takes_the_data_folder(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LONGTAKE_DATABASE_URL", raising=False)
    before = os.environ.get("LONGTAKE_DATA_DIR")
    ran = run(*command, "--data-dir", tmp_path / "data", "--json")
    assert ran.status == 0, ran.err
    assert os.environ.get("LONGTAKE_DATA_DIR") == before
    if command[0] == "keys":
        assert (tmp_path / "data").is_dir()
    if command[0] == "doctor":
        assert any(str(tmp_path / "data") in row["text"] for row in ran.document["sections"]["Settings"])
