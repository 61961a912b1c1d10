"""`longtake models`: what is here, what to fetch and how large it is, and whether what is here fits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from longtake.errors import DownloadFailed, InvalidRequest
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
from longtake.settings import Settings
from longtake.video import OnProgress, Progress, ignore_progress


@dataclass(frozen=True)
class ModelStatus:
    """A model as it is on this machine.

    parts, adapters: where each one lies; `missing`: the parts that generation still needs.
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
        return sum(_size(path) for path in {*self.parts.values(), *self.adapters.values()})


def _size(path: Path) -> int:
    notes = path / ".cache"  # of the hub's own library, in a repository that is kept whole
    found = [path] if path.is_file() else path.rglob("*")
    files = [file for file in found if file.is_file() and not file.is_relative_to(notes)]
    return sum(file.stat().st_size for file in files)


def status(card: ModelCard, settings: Settings) -> ModelStatus:
    """A model as it is on this machine."""
    return ModelStatus(card, located(card, settings), missing(card, settings), adapters(card, settings))


def list_models(settings: Settings) -> list[ModelStatus]:
    """All models, installed or not."""
    return [status(card, settings) for card in CARDS.values()]


@dataclass(frozen=True)
class Pull:
    """What a pull will fetch: each file and the folder below which it goes. Files that are here are not in it."""

    card: ModelCard
    files: Sequence[tuple[hub.HubFile, Path]]

    @property
    def num_bytes(self) -> int:
        return sum(file.num_bytes for file, _ in self.files)

    def sentence(self) -> str:
        if not self.files:
            return f"{self.card.name} is here already."
        repos = ", ".join(sorted({file.repo for file, _ in self.files}))
        size = f"{self.num_bytes / 1e9:.1f} GB"
        return f"{self.card.name}: {len(self.files)} files, {size}, from {repos}. {self.card.licence}"


def planned(card: ModelCard, settings: Settings) -> Pull:
    """What a pull of this model will fetch. Raises `InvalidRequest` where there is nothing to fetch it from."""
    if card.embedded:
        raise InvalidRequest(f"{card.name} ships inside the package; there is nothing to fetch.")
    listed: dict[str, list[hub.HubFile]] = {}
    chosen: dict[Path, tuple[hub.HubFile, Path]] = {}
    for name, own, usual in _wanted(card):
        published = _publication(card, own, usual, settings, listed)
        files = [file for file in _files(published.repo, settings, listed) if _belongs(file.path, published.path)]
        if not files:
            raise DownloadFailed(f"The hub's {published.repo} has no {published.path}, the {name} of {card.name}.")
        folder = settings.models_dir / published.shelf
        for file in files:
            here = folder / file.path
            if not (here.is_file() and here.stat().st_size == file.num_bytes):
                chosen[here] = (file, folder)
    return Pull(card, list(chosen.values()))


def _wanted(card: ModelCard) -> list[tuple[str, str, Published]]:
    """The parts and adapters of a model: name, place in diffusers layout, and where each is published."""
    parts = [(part, FOLDERS[part], place) for part, place in card.parts.items() if place is not None]
    loras = [(name, f"{LORAS}/{name}.safetensors", place) for name, place in card.loras.items() if place is not None]
    return [*parts, *loras]


def _publication(
    card: ModelCard, own: str, usual: Published, settings: Settings, listed: dict[str, list[hub.HubFile]]
) -> Published:
    """Where a part comes from: the repository that the settings name if it has the part, else the card's own."""
    source = settings.model_sources.get(card.name)
    if source is None or Path(source).expanduser().exists():
        return usual
    has = any(_belongs(file.path, own) for file in _files(source, settings, listed))
    return Published(source, own, card.name) if has else usual


def _files(repo: str, settings: Settings, listed: dict[str, list[hub.HubFile]]) -> list[hub.HubFile]:
    if repo not in listed:
        listed[repo] = hub.files(repo, settings)
    return listed[repo]


def _belongs(path: str, published: str) -> bool:
    """Whether a file is the published one or lies in the published folder; never a pickle or another format."""
    wanted = (".safetensors", ".json", ".model", ".txt")
    inside = "/" not in path if published == "." else path.startswith(f"{published}/")
    return path == published or (inside and path.endswith(wanted))


def pull(card: ModelCard, settings: Settings, on_progress: OnProgress = ignore_progress) -> Pull:
    """Fetches what a model still lacks, resuming where it stopped; sizes and hashes are verified.

    Progress counts bytes. Raises `DownloadFailed` with the reason; what came until then is kept.
    """
    plan = planned(card, settings)
    done = 0
    for file, folder in plan.files:
        came = 0

        def tell(count: int, name: str = file.path, before: int = done) -> None:
            nonlocal came
            came += count
            on_progress(Progress(f"fetch {name}", before + came, plan.num_bytes))

        hub.fetch(file, folder, settings, tell)
        done += file.num_bytes
    return plan
