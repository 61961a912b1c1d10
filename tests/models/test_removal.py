"""What the removal of a model deletes, and what it keeps."""

from pathlib import Path

import pytest

from longtake.errors import InvalidRequest
from longtake.models.registry import card
from longtake.models.removal import plan_removal, remove
from longtake.settings import Settings

DEV, DISTILLED = "ltxv-13b-0.9.7-dev", "ltxv-13b-0.9.7-distilled"


def _write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"12345")


def _left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_shared_files_stay_until_the_last_model_that_uses_them_goes(tmp_path: Path) -> None:
    settings = Settings(models_dir=tmp_path)
    _write(
        tmp_path, f"{DEV}/a", f"{DEV}/.cache/part.incomplete", f"{DISTILLED}/b", "ltxv-t5-xxl/text_encoder/c", "mine/d"
    )
    removal = plan_removal(card(DEV), settings)
    assert (removal.num_bytes, removal.kept) == (10, [tmp_path / "ltxv-t5-xxl"])
    assert "ltxv-t5-xxl stays, because another model uses it" in removal.sentence()
    remove(removal)
    assert _left(tmp_path) == [DISTILLED, "ltxv-t5-xxl", "mine"]
    remove(plan_removal(card(DISTILLED), settings))
    assert _left(tmp_path) == ["mine"]


def test_a_model_elsewhere_counts_as_one_that_uses_shared_files(tmp_path: Path) -> None:
    settings = Settings(models_dir=tmp_path / "models", model_sources={DISTILLED: str(tmp_path / "x.safetensors")})
    _write(tmp_path, "x.safetensors", f"models/{DEV}/a", "models/ltxv-t5-xxl/text_encoder/c")
    remove(plan_removal(card(DEV), settings))
    assert _left(tmp_path / "models") == ["ltxv-t5-xxl"]
    remove(plan_removal(card(DISTILLED), settings))
    with pytest.raises(InvalidRequest, match="has no files in the folder of models"):
        plan_removal(card(DISTILLED), settings)
    assert (tmp_path / "x.safetensors").exists()


def test_of_a_link_only_the_link_is_deleted(tmp_path: Path) -> None:
    _write(tmp_path, "weights/a", "models/gemma-3-12b-it-qat-q4_0-unquantized/b", "models/ltx-2.3-notes/c")
    (tmp_path / "models" / "ltx-2.3").symlink_to(tmp_path / "weights")
    removal = plan_removal(card("ltx-2.3"), Settings(models_dir=tmp_path / "models"))
    assert removal.num_bytes == 5
    remove(removal)
    assert _left(tmp_path / "models") == ["ltx-2.3-notes"]
    assert _left(tmp_path / "weights") == ["a"]


def test_a_model_in_the_package_is_not_removed(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="ltxv-tiny is a part of the package"):
        plan_removal(card("ltxv-tiny"), Settings(models_dir=tmp_path))
