"""Deletes the downloaded files of a model from the folder of models."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from longtake.errors import InvalidRequest
from longtake.models.registry import CARDS, ModelCard
from longtake.settings import NO_HOME, Settings


@dataclass(frozen=True)
class Removal:
    """The files and folders that are deleted when a model is removed.

    card: the model.
    folders: the folders that are deleted.
    kept: folders with parts of the model that stay, because another model on this machine uses them.
    """

    card: ModelCard
    folders: Sequence[Path]
    kept: Sequence[Path]

    @property
    def num_bytes(self) -> int:
        """The bytes of all files that are deleted. What a link leads to is not deleted and does not count."""
        files = (file for folder in self.folders if not folder.is_symlink() for file in folder.rglob("*"))
        return sum(file.lstat().st_size for file in files if file.is_file() or file.is_symlink())

    def sentence(self) -> str:
        """Returns the removal in words: the folders that are deleted, their size, and the folders that stay."""
        deleted = ", ".join(map(str, self.folders))
        kept = "".join(f" {folder} stays, because another model uses it." for folder in self.kept)
        return f"{self.card.name}: {self.num_bytes / 1e9:.1f} GB in {deleted}.{kept}"


def plan_removal(card: ModelCard, settings: Settings) -> Removal:
    """Returns what the removal of a model would delete: its folders in `settings.models_dir`.

    Files elsewhere, which `settings.model_sources` names, are never deleted. Raises `InvalidRequest` for a model in the
    package, and if the folder of models has nothing to delete.
    """
    if card.embedded:
        raise InvalidRequest(f"{card.name} is a part of the package and cannot be removed from it.")
    others = [
        other
        for other in CARDS.values()
        if other is not card and ((settings.models_dir / other.name).exists() or other.name in settings.model_sources)
    ]
    shared = {name for other in others for name in _folders(other)}
    here = [name for name in sorted(_folders(card)) if os.path.lexists(settings.models_dir / name)]
    folders = [settings.models_dir / name for name in here if name not in shared]
    if not folders:
        place = "" if NO_HOME in settings.models_dir.parents else f", {settings.models_dir}"
        raise InvalidRequest(f"{card.name} has no files in the folder of models{place}.")
    return Removal(card, folders, [settings.models_dir / name for name in here if name in shared])


def _folders(card: ModelCard) -> set[str]:
    """Returns the names of the folders in `models_dir` into which a model is downloaded."""
    places = [*card.parts.values(), *card.loras.values()]
    return {card.name, *(Path(place.folder).parts[0] for place in places if place is not None)}


def remove(removal: Removal) -> None:
    """Deletes the folders of a removal. Of a folder that is a link, only the link is deleted."""
    for folder in removal.folders:
        if folder.is_symlink():
            folder.unlink()
        else:
            shutil.rmtree(folder)
