"""`longtake models`: what is here, what to fetch and how large it is, and whether what is here fits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from longtake.clip import OnProgress, Progress, ignore_progress
from longtake.errors import BadCheckpoint, DownloadFailed, InvalidRequest
from longtake.models import hub
from longtake.models.registry import CARDS, FOLDERS, PART_NAMES, ModelCard, PartName, Published, located, missing
from longtake.settings import Settings


@dataclass(frozen=True)
class ModelStatus:
    """A model as it is on this machine. `parts`: where each one lies; `missing`: those that generation still needs."""

    card: ModelCard
    parts: Mapping[PartName, Path]
    missing: Sequence[PartName]

    @property
    def installed(self) -> bool:
        return not self.missing

    @property
    def num_bytes(self) -> int:
        return sum(_size(path) for path in set(self.parts.values()))


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def list_models(settings: Settings) -> list[ModelStatus]:
    """All models, installed or not."""
    return [ModelStatus(card, located(card, settings), missing(card, settings)) for card in CARDS.values()]


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
    for part in PART_NAMES:
        published = _publication(card, part, settings, listed)
        if published.repo not in listed:
            listed[published.repo] = hub.files(published.repo, settings)
        files = [file for file in listed[published.repo] if _belongs(file.path, published.path)]
        if not files:
            raise DownloadFailed(f"The hub's {published.repo} has no {published.path}, the {part} of {card.name}.")
        folder = settings.models_dir / published.shelf
        for file in files:
            here = folder / file.path
            if not (here.is_file() and here.stat().st_size == file.num_bytes):
                chosen[here] = (file, folder)
    return Pull(card, list(chosen.values()))


def _publication(
    card: ModelCard, part: PartName, settings: Settings, listed: dict[str, list[hub.HubFile]]
) -> Published:
    """Where a part comes from: the repository that the settings name if it has the part, else the card's own."""
    source = settings.model_sources.get(card.name)
    if source is not None and not Path(source).expanduser().exists():
        if source not in listed:
            listed[source] = hub.files(source, settings)
        if any(_belongs(file.path, FOLDERS[part]) for file in listed[source]):
            return Published(source, FOLDERS[part], card.name)
    assert card.parts is not None
    return card.parts[part]


def _belongs(path: str, published: str) -> bool:
    """Whether a file is the published one or lies in the published folder; never a pickle or another format."""
    wanted = (".safetensors", ".json", ".model", ".txt")
    return path == published or (path.startswith(f"{published}/") and path.endswith(wanted))


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


@dataclass(frozen=True)
class PartReport:
    """One part as found: parameters of its weights, and what is wrong with it (None: it fits)."""

    part: PartName
    path: Path
    num_parameters: int
    problem: str | None


@dataclass(frozen=True)
class CheckReport:
    """The parts that were found, and those that generation needs and that were not."""

    target: str
    parts: Sequence[PartReport]
    missing: Sequence[PartName]

    @property
    def fits(self) -> bool:
        return bool(self.parts) and not self.missing and all(part.problem is None for part in self.parts)


def check(target: str, settings: Settings) -> CheckReport:
    """Reads the headers of a model by name, or of a checkpoint file or folder by path, and compares them with the
    classes: names, shapes, kinds. No weights are read.

    Raises `BadCheckpoint` for a target that is neither.
    """
    if target in CARDS:
        card = CARDS[target]
        parts, lacking = located(card, settings), missing(card, settings)
    else:
        parts, lacking = _parts_at(Path(target).expanduser()), ()
    return CheckReport(target, [_report(part, path) for part, path in parts.items()], lacking)


def _parts_at(path: Path) -> dict[PartName, Path]:
    from longtake.models import checkpoints, keys, safe

    if path.is_file():
        names = safe.read_header(path).tensors
        prefixes: dict[PartName, str] = {"transformer": keys.TRANSFORMER_PREFIX, "vae": keys.VAE_PREFIX}
        held = {part: path for part, prefix in prefixes.items() if any(name.startswith(prefix) for name in names)}
        return held or {"upsampler": path}
    if (path / "config.json").is_file():
        config = safe.read_json(path / "config.json")
        named = f"{config.get('_class_name')} {config.get('architectures')}"
        held = {
            part: path for part in PART_NAMES if part in checkpoints.CLASSES and checkpoints.CLASSES[part][1] in named
        }
    else:
        held = {part: path / folder for part, folder in FOLDERS.items() if (path / folder).is_dir()}
    if not held:
        raise BadCheckpoint(f"{path} is neither a model's name ({', '.join(CARDS)}) nor a checkpoint file or folder.")
    return held


def _report(part: PartName, path: Path) -> PartReport:
    from longtake.models import checkpoints, ltxv

    count = 0
    try:
        if part == "tokenizer":
            ltxv.tokenizer(path)
            return PartReport(part, path, 0, None)
        checkpoint = checkpoints.open_part(part, path)
        model = checkpoints.skeleton(checkpoint)
        count = sum(parameter.numel() for parameter in model.parameters())
        differences = checkpoints.fit(checkpoint, model)
        return PartReport(part, path, count, None if differences.exact else differences.sentence())
    except BadCheckpoint as error:
        return PartReport(part, path, count, error.message)
