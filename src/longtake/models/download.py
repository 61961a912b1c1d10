"""The models on this machine, and their download from the Hugging Face hub."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from longtake.errors import DownloadFailed, InvalidRequest, ModelDownloadFailed
from longtake.models import hub
from longtake.models.registry import (
    CARDS,
    FOLDERS,
    LORAS,
    ModelCard,
    PartName,
    Published,
    adapters,
    located,
    missing,
)
from longtake.settings import Settings, expanded, make_folder
from longtake.video import OnProgress, Progress, ignore_progress


@dataclass(frozen=True)
class ModelStatus:
    """The parts and adapters of a model that are on this machine.

    card: the model.
    parts: the file or folder of each part that is on this machine.
    missing: the parts that generation needs and that are not on this machine.
    adapters: adapter's name -> its file, for each of the model's own adapters that is on this machine.
    """

    card: ModelCard
    parts: Mapping[PartName, Path]
    missing: Sequence[PartName]
    adapters: Mapping[str, Path]

    @property
    def installed(self) -> bool:
        return not self.missing

    @property
    def num_bytes(self) -> int:
        """The bytes on disk of all parts and adapters of the model. A file that holds several parts counts once."""
        return sum(_size(path) for path in {*self.parts.values(), *self.adapters.values()})

    @property
    def absent_bytes(self) -> int:
        """The approximate number of bytes of the model's published parts and adapters that are not on this machine. A
        file with several parts counts once."""
        absent = [place for part, place in self.card.parts.items() if part not in self.parts]
        absent += [place for name, place in self.card.loras.items() if name not in self.adapters]
        return round(sum(place.gigabytes for place in {*absent} if place is not None) * 1e9)


def _size(path: Path) -> int:
    hub_cache = path / ".cache"  # has the locks and the unfinished files of `hub.fetch`
    found = [path] if path.is_file() else path.rglob("*")
    files = [file for file in found if file.is_file() and not file.is_relative_to(hub_cache)]
    return sum(file.stat().st_size for file in files)


def status(card: ModelCard, settings: Settings) -> ModelStatus:
    """Returns the parts and adapters of a model that are on this machine."""
    return ModelStatus(card, located(card, settings), missing(card, settings), adapters(card, settings))


def list_models(settings: Settings) -> list[ModelStatus]:
    """Returns the status of every model that this version knows, installed or not."""
    return [status(card, settings) for card in CARDS.values()]


@dataclass(frozen=True)
class Pull:
    """The download of a model.

    card: the model.
    files: (file, folder) for each file that is not on this machine yet. It will be saved as `folder / file.path`.
    """

    card: ModelCard
    files: Sequence[tuple[hub.HubFile, Path]]

    @property
    def num_bytes(self) -> int:
        return sum(file.num_bytes for file, _ in self.files)

    def sentence(self) -> str:
        """Returns the download in words: the number of files, their size, their repositories and the licence."""
        if not self.files:
            return f"{self.card.name} is here already."
        repos = ", ".join(sorted({file.repo for file, _ in self.files}))
        size = f"{self.num_bytes / 1e9:.1f} GB"
        return f"{self.card.name}: {len(self.files)} files, {size}, from {repos}. {self.card.licence}"


@contextmanager
def _raising_model_download_failed() -> Iterator[None]:
    """Context manager. If its block raises `DownloadFailed`, `ModelDownloadFailed` is raised in its place."""
    try:
        yield
    except DownloadFailed as error:
        raise ModelDownloadFailed(error.message, value=error.value) from error


@_raising_model_download_failed()
def plan_pull(card: ModelCard, settings: Settings) -> Pull:
    """Returns the files of a model that must still be downloaded. Asks the Hugging Face hub, but downloads nothing.

    Raises `InvalidRequest` for a model whose weights are in the package. Raises `ModelDownloadFailed` if the hub does
    not answer, if it lacks a file, or if the setting `offline` is on.
    """
    if card.embedded:
        raise InvalidRequest(f"{card.name} ships inside the package; there is nothing to fetch.")
    listed: dict[str, list[hub.HubFile]] = {}
    chosen: dict[Path, tuple[hub.HubFile, Path]] = {}
    for name, own, usual in _wanted(card):
        published = _publication(card, own, usual, settings, listed)
        files = [file for file in _files(published.repo, settings, listed) if _belongs(file.path, published.path)]
        if not files:
            raise DownloadFailed(f"The hub's {published.repo} has no {published.path}, the {name} of {card.name}.")
        folder = settings.models_dir / published.folder
        for file in files:
            here = folder / file.path
            if not (here.is_file() and here.stat().st_size == file.num_bytes):
                chosen[here] = (file, folder)
    return Pull(card, list(chosen.values()))


def _wanted(card: ModelCard) -> list[tuple[str, str, Published]]:
    """Returns (name, path, place) for each part and adapter of a model that has to be downloaded if it is missing.

    name: the name of the part or adapter.
    path: where a model's folder has it, such as `vae` or `loras/<name>.safetensors`.
    place: where it is published.
    """
    parts = [(part, FOLDERS[part], place) for part, place in card.parts.items() if place is not None]
    loras = [(name, f"{LORAS}/{name}.safetensors", place) for name, place in card.loras.items() if place is not None]
    return [*parts, *loras]


def _publication(
    card: ModelCard, own: str, usual: Published, settings: Settings, listed: dict[str, list[hub.HubFile]]
) -> Published:
    """Returns the place from which a part of the model or an adapter is downloaded.

    This is the Hugging Face hub repository that `settings.model_sources` names for the model, if that repository has
    the part or adapter. In all other cases it is `usual`.

    own: the path of the part or adapter in that repository, such as `vae`.
    usual: the place that the model's card names.
    listed: repository -> its files. If a repository is missing here, the hub lists its files, and they are added.
    """
    source = settings.model_sources.get(card.name)
    if source is None or expanded(source).exists():
        return usual
    has = any(_belongs(file.path, own) for file in _files(source, settings, listed))
    return Published(source, own, card.name) if has else usual


def _files(repo: str, settings: Settings, listed: dict[str, list[hub.HubFile]]) -> list[hub.HubFile]:
    """Returns the files of a repository, from `listed` or from the Hugging Face hub.

    listed: repository -> its files. If the repository is missing here, the hub lists its files, and they are added.
    """
    if repo not in listed:
        listed[repo] = hub.files(repo, settings)
    return listed[repo]


def _belongs(path: str, published: str) -> bool:
    """Returns True if a file of a repository belongs to the part of a model, or the adapter, that is published at
    `published`.

    path: the file's path in the repository.
    published: a file or folder in the repository.

    There are three cases:
    - `published` is a file: only this file belongs.
    - It is a folder: the safetensors, JSON, .model and .txt files in it and in its subfolders belong.
    - It is `.`: the files of these kinds at the top of the repository belong.
    """
    wanted = (".safetensors", ".json", ".model", ".txt")
    inside = "/" not in path if published == "." else path.startswith(f"{published}/")
    return path == published or (inside and path.endswith(wanted))


@_raising_model_download_failed()
def pull(card: ModelCard, settings: Settings, on_progress: OnProgress = ignore_progress) -> Pull:
    """Downloads the files of a model that are not on this machine, and verifies their sizes and hashes.

    Returns the `Pull`, which lists these files. After a failure, the next call downloads only the files that are not
    complete, each from its beginning.

    on_progress: receives the bytes downloaded so far as `step`, and the bytes of the whole download as `steps`.

    Raises `InvalidRequest` for a model whose weights are in the package. Raises `ModelDownloadFailed` if the Hugging
    Face hub does not answer or lacks a file, if the setting `offline` is on, or if a file does not fit on the disk or
    is damaged.
    """
    plan = plan_pull(card, settings)
    make_folder(settings.models_dir, "models_dir")
    done = 0
    for file, folder in plan.files:
        of_file = 0

        def report(count: int, name: str = file.path, before: int = done) -> None:
            nonlocal of_file
            of_file += count
            on_progress(Progress(f"fetch {name}", before + of_file, plan.num_bytes))

        hub.fetch(file, folder, settings, report)
        done += file.num_bytes
    return plan
