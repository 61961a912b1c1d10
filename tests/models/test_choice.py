"""The choice of the model that carries out a request: a published one, or a miniature that stands in for it."""

from pathlib import Path
from typing import Any

import pytest

from longtake.errors import BadCheckpoint, ModelNotInstalled, NotSupported
from longtake.models.choice import choose_model, named_model, stand_in
from longtake.models.registry import ModelCard, card
from longtake.settings import Settings

OWN, MINIATURE, OTHER = card("ltx-2.3"), card("ltx2-tiny"), card("ltxv-13b-0.9.8-distilled")


def _settings(folder: Path, *installed: ModelCard, **values: Any) -> Settings:
    for one in installed:
        for part in one.parts:
            (folder / one.name / part).mkdir(parents=True)
    return Settings(models_dir=folder, **values)


@pytest.mark.parametrize("rule", ["auto", "allow", "refuse"])
def test_an_installed_model_is_chosen_and_nothing_is_said(rule: str, tmp_path: Path) -> None:
    choice = choose_model(OWN, MINIATURE, _settings(tmp_path, OWN, stand_in=rule))
    assert (choice.card, choice.stands_in_for, choice.note, choice.installed) == (OWN, None, None, True)
    choice.check()


@pytest.mark.parametrize(("rule", "installed"), [("auto", ()), ("allow", ()), ("allow", (OTHER,))])
def test_a_miniature_that_stands_in_says_so(rule: str, installed: tuple[ModelCard, ...], tmp_path: Path) -> None:
    choice = choose_model(OWN, MINIATURE, _settings(tmp_path, *installed, stand_in=rule))
    assert choice == stand_in(OWN, MINIATURE)
    assert (choice.card, choice.stands_in_for) == (MINIATURE, "ltx-2.3")
    assert choice.note == (
        "ltx2-tiny, a miniature that makes simple moving shapes, stands in for ltx-2.3, which is not installed; "
        "`longtake models pull ltx-2.3` fetches it."
    )
    choice.check()


@pytest.mark.parametrize(
    ("rule", "installed", "reason"),
    [
        ("refuse", (), "LONGTAKE_STAND_IN=refuse lets no miniature stand in for it"),
        ("refuse", (OTHER,), "LONGTAKE_STAND_IN=refuse lets no miniature stand in for it"),
        ("auto", (OTHER,), "only where no published model is installed, and ltxv-13b-0.9.8-distilled is"),
    ],
)
def test_a_refusal_says_what_fetches_the_model(
    rule: str, installed: tuple[ModelCard, ...], reason: str, tmp_path: Path
) -> None:
    choice = choose_model(OWN, MINIATURE, _settings(tmp_path, *installed, stand_in=rule))
    assert (choice.card, choice.stands_in_for) == (OWN, None)
    with pytest.raises(ModelNotInstalled) as error:
        choice.check()
    assert (error.value.status, error.value.exit_code) == (503, 3)
    assert error.value.message.startswith("ltx-2.3 is not installed")
    assert reason in error.value.message
    assert "`longtake models pull ltx-2.3` fetches it" in error.value.message
    assert error.value.body() == {"detail": error.value.message, "error_type": "runner_scheduling_failure"}


def test_a_miniature_that_is_named_is_never_refused(tmp_path: Path) -> None:
    choice = named_model("ltx2-tiny", _settings(tmp_path, OTHER, stand_in="refuse"))
    assert (choice.card, choice.stands_in_for, choice.note, choice.installed) == (MINIATURE, None, None, True)


def test_a_named_model_that_is_not_installed_is_refused(tmp_path: Path) -> None:
    choice = named_model("ltx-2.3", _settings(tmp_path, stand_in="allow"))
    with pytest.raises(BadCheckpoint, match=r"ltx-2\.3 is not installed: .*lacks its transformer, .*models pull ltx-2"):
        choice.check()


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(NotSupported, match="'ltx-9'; the models are"):
        named_model("ltx-9", Settings())
