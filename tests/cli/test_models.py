"""`longtake models`: list, pull, rm and check. tests/models covers downloads and removals themselves."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from longtake.cli import models
from tests.cli.running import run
from tests.models.stand_in_hub import Hub, serving

PULLED = "ltxv-13b-0.9.7-dev"


def test_list_shows_every_model() -> None:
    listed = {model["name"]: model for model in run("models", "list", "--json").document}
    assert {"ltxv-tiny", "ltxv-13b-0.9.7-dev", "ltxv-13b-0.9.8-distilled"} <= listed.keys()
    assert "ltxv-tiny" in run("models", "list").out


def test_check_reports_if_the_files_fit(model: str, clips: Path) -> None:
    ran = run("models", "check", model, "--json")
    assert (ran.status, ran.document["fits"]) == (0, True)
    ran = run("models", "check", clips / "other.safetensors", "--json")
    assert (ran.status, ran.document["fits"]) == (1, False)


def test_check_ends_with_what_to_do(model: str, clips: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LONGTAKE_MODELS_DIR", str(tmp_path / "models"))
    for target, advice in (
        (model, "nothing has to be done"),
        (clips / "other.safetensors", "Mend what is named above"),
        (PULLED, f"`longtake models pull {PULLED}` downloads what is missing"),
    ):
        assert advice in run("models", "check", target).out.splitlines()[-1]
        assert advice in run("models", "check", target, "--json").document["advice"]
    (tmp_path / "models" / PULLED).mkdir(parents=True)
    (tmp_path / "models" / PULLED / f"{PULLED}.safetensors").write_text("no weights")
    assert f"`longtake models rm {PULLED}` and then" in run("models", "check", PULLED).out.splitlines()[-1]
    elsewhere = tmp_path / "mine.safetensors"
    elsewhere.write_text("no weights")
    monkeypatch.setenv("LONGTAKE_MODEL_SOURCES", json.dumps({PULLED: str(elsewhere)}))
    assert f"Replace {elsewhere}" in run("models", "check", PULLED).out.splitlines()[-1]


def test_list_shows_size_and_licence_of_what_is_not_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LONGTAKE_MODELS_DIR", str(tmp_path))
    first, *_, licence = run("models", "list").out.partition(f"  {PULLED} ")[2].splitlines()[:3]
    assert f"not here; `longtake models pull {PULLED}` downloads about 38.6 GB" in first
    assert "LTXV Open Weights License" in licence
    absent = {model["name"]: model["absent_bytes"] for model in run("models", "list", "--json").document}
    assert 75e9 < absent["ltx-2.3"] < 85e9
    assert absent["ltxv-tiny"] == 0
    (tmp_path / "ltxv-t5-xxl" / "text_encoder").mkdir(parents=True)
    absent = {model["name"]: model["absent_bytes"] for model in run("models", "list", "--json").document}
    assert absent[PULLED] == 29_100_000_000


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A hub with a model of a few bytes. Yields the folder of models. Downloads of 10 bytes are already asked about."""
    files = {f"{PULLED}.safetensors": b"weights", "ltxv-spatial-upscaler-0.9.7.safetensors": b"more"}
    files |= {"text_encoder/model.safetensors": b"t5", "tokenizer/tokenizer.json": b"{}"}
    with serving(Hub({"Lightricks/LTX-Video": files})) as running:
        monkeypatch.setenv("LONGTAKE_HF_ENDPOINT", running.url)
        monkeypatch.setenv("LONGTAKE_MODELS_DIR", str(tmp_path / "models"))
        monkeypatch.setattr(models, "ASK_FROM_BYTES", 10)
        yield tmp_path / "models"


def test_a_large_download_and_a_removal_need_permission(hub: Path) -> None:
    ran = run("models", "pull", PULLED)
    assert (ran.status, ran.out) == (2, "")
    assert "--yes" in ran.err
    assert not hub.exists()
    assert run("models", "pull", PULLED, "--yes").status == 0
    assert (hub / PULLED / f"{PULLED}.safetensors").read_bytes() == b"weights"
    assert run("models", "pull", PULLED).status == 0, "nothing is left to download or to ask about"
    ran = run("models", "rm", PULLED, "--json")
    assert (ran.status, "--yes" in ran.document["detail"][0]["msg"]) == (2, True)
    assert (hub / PULLED / f"{PULLED}.safetensors").exists()
    assert run("models", "rm", PULLED, "--yes").status == 0
    assert list(hub.iterdir()) == []


def test_a_download_that_fails_and_a_name_that_is_unknown_have_their_own_status(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in ("pull", "rm", "check"):
        assert run("models", command, "ltx-9").status == 2
    monkeypatch.setenv("LONGTAKE_OFFLINE", "1")
    ran = run("models", "pull", PULLED)
    assert (ran.status, "LONGTAKE_OFFLINE is set" in ran.err) == (1, True)


@pytest.mark.parametrize(("answer", "status"), [("n", 1), ("y", 0)])
def test_on_a_terminal_the_answer_decides(answer: str, status: int, tmp_path: Path) -> None:
    folder = tmp_path / "models" / PULLED
    folder.mkdir(parents=True)
    master, terminal = os.openpty()
    os.write(master, f"{answer}\n".encode())
    ran = subprocess.run(
        [sys.executable, "-m", "longtake", "models", "rm", PULLED],
        stdin=terminal,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"LONGTAKE_MODELS_DIR": str(folder.parent)},
    )
    os.close(master)
    os.close(terminal)
    assert (ran.returncode, "Delete 0 B?" in ran.stderr) == (status, True)
    assert folder.exists() == (answer == "n")


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
