"""`longtake models`: list and check. tests/models covers downloads."""

from pathlib import Path

from tests.cli.running import run


def test_list_shows_every_model() -> None:
    listed = {model["name"]: model for model in run("models", "list", "--json").document}
    assert {"ltxv-tiny", "ltxv-13b-0.9.7-dev", "ltxv-13b-0.9.8-distilled"} <= listed.keys()
    assert "ltxv-tiny" in run("models", "list").out


def test_check_reports_if_the_files_fit(model: str, clips: Path) -> None:
    ran = run("models", "check", model, "--json")
    assert (ran.status, ran.document["fits"]) == (0, True)
    ran = run("models", "check", clips / "other.safetensors", "--json")
    assert (ran.status, ran.document["fits"]) == (1, False)
