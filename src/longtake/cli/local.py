"""A request of the command line on this machine: what was asked, its open source, and the file to write."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from longtake.cli.inspection import inspect
from longtake.cli.options import item, json_input, request_data
from longtake.cli.show import Outcome
from longtake.clip import OnProgress, Progress, Source
from longtake.endpoints import endpoint, ltx23, ltxv098
from longtake.endpoints.shared import LoRAWeight, parse
from longtake.errors import InvalidRequest
from longtake.media.fetch import localise
from longtake.media.formats import OutputType, Quality, Recipe, WriteMode, recipe
from longtake.media.source import open_source
from longtake.models.registry import ModelCard, card, default_model
from longtake.plan import LoRA
from longtake.prepare import Prepared, Request, prepared
from longtake.prepare import recipe_of as api_recipe
from longtake.settings import Settings

if TYPE_CHECKING:
    from longtake.footage import Result

NEW_FRAMES = 96
"""How many frames are added where nothing says how many: four seconds at 24 frames per second."""

MAX_RATE = 60
"""The fastest that the endpoints play; a faster source is resampled to it."""


@dataclass(frozen=True)
class Asked:
    """A parsed request and the model to do it with.

    `new_frames`: all of the source is kept and so many frames are added; None: the endpoint's own counting.
    `own_rate`: the output plays at the source's rate. `may_resample`: a source too fast for that is resampled.
    `recipe`: how the file is written, where one is. `loras`: for an endpoint whose requests have no field for them.
    """

    request: Request
    card: ModelCard
    new_frames: int | None
    own_rate: bool
    may_resample: bool
    recipe: Recipe | None = None
    loras: tuple[LoRA, ...] = ()


def ask(
    given: Mapping[str, Any],
    settings: Settings,
    *,
    source: str | None,
    endpoint_name: str,
    model: str | None = None,
    json_file: str | None = None,
    new_frames: int | None = None,
    out: Path | None = None,
    quality: Quality | None = None,
    write_mode: WriteMode | None = None,
) -> Asked:
    """What the options ask for. Raises InvalidRequest for what cannot be asked, by name.

    `out`, `quality` and `write_mode` are the file's to write; where the endpoint has fields for them they count there.
    """
    module = endpoint(endpoint_name)
    loras: tuple[LoRA, ...] = ()
    if module is ltx23:
        loras = tuple(map(lora, given.get("lora") or ()))
        given = with_file(given, None if out is None else output_type(out), quality, write_mode) | {"lora": None}
    data = request_data(given, json_input(json_file), source, module.ENDPOINT)
    if "num_frames" in data and new_frames is not None:
        raise InvalidRequest(
            "Both --num-frames and --new-frames are given; give one of them.",
            loc=("body", "num_frames"),
            given=data["num_frames"],
        )
    if module is ltx23:
        own_rate = may_resample = False
    else:
        video = data["video"]
        if video.get("conditioning_type", "rgb") != "rgb" and new_frames is not None:
            data["num_frames"] = new_frames
        own_rate = "frame_rate" not in data
        may_resample = "resample_fps" not in video and "target_fps" not in video
        new_frames = None if "num_frames" in data else new_frames or NEW_FRAMES
    request: Request = parse(module.Request, data, forbid_unknown=True)
    return Asked(
        request=request,
        card=default_model(module.ENDPOINT, settings) if model is None else card(model),
        new_frames=new_frames,
        own_rate=own_rate,
        may_resample=may_resample,
        loras=loras,
        recipe=None if out is None else recipe_of(request, out, quality, write_mode),
    )


def lora(text: str) -> LoRA:
    """What `--lora` says."""
    weight = parse(LoRAWeight, item(text, LoRAWeight, "--lora"))
    return LoRA(weight.path, weight.scale, weight.weight_name)


def with_file(
    given: Mapping[str, Any], type: OutputType | None, quality: Quality | None, mode: WriteMode | None
) -> dict[str, Any]:
    """The options with what else is told of the file to write. Raises InvalidRequest where they contradict that."""
    told = {"video_output_type": type, "video_quality": quality, "video_write_mode": mode}
    for name, value in told.items():
        option = given.get(name)
        if None not in (option, value) and option != value:
            by = "OUT's suffix" if name == "video_output_type" else f"--{name.removeprefix('video_').replace('_', '-')}"
            raise InvalidRequest(
                f"--{name.replace('_', '-')} is {option!r}, and {by} asks for {value!r}; give one of them.",
                loc=("body", name),
                given=option,
            )
    return dict(given) | {name: value for name, value in told.items() if value is not None}


def at_own_rate(asked: Asked, source: Source) -> Request:
    """The request with the rate that the footage has: the one it is resampled to, else the source's, at most 60."""
    request = asked.request
    if not isinstance(request, ltxv098.Request) or not asked.own_rate:
        return request
    video = request.video
    if source.rate > MAX_RATE and asked.may_resample:
        video = video.model_copy(update={"resample_fps": True, "target_fps": MAX_RATE})
    rate = video.target_fps if video.resample_fps else min(max(round(source.rate), 1), MAX_RATE)
    return request.model_copy(update={"frame_rate": rate, "video": video})


@contextmanager
def opened(asked: Asked, settings: Settings) -> Iterator[Prepared]:
    """The request's source, open as long as the block, and the plan. The source may be a path of this machine."""

    def adjust(request: Request, source: Source) -> Request:
        return at_own_rate(asked, source)

    with prepared(
        asked.request,
        asked.card,
        settings,
        allow_local=True,
        new_frames=asked.new_frames,
        loras=asked.loras,
        adjust=adjust,
    ) as ready:
        yield ready


def output_type(out: Path) -> OutputType:
    """The type of a file of this name. Raises InvalidRequest for a suffix that no type has."""
    types: dict[str, OutputType] = {recipe(type, "high", "balanced").suffix: type for type in get_args(OutputType)}
    if out.suffix.lower() not in types:
        raise InvalidRequest(
            f"{out.name} ends in {out.suffix or 'no suffix'}; its type is told by one of {', '.join(types)}.",
            loc=("output",),
            given=str(out),
        )
    return types[out.suffix.lower()]


def recipe_of(request: Request, out: Path, quality: Quality | None, mode: WriteMode | None) -> Recipe:
    """How the file is written: as the request says, where it has fields for that, else by the command line."""
    if isinstance(request, ltx23.Request):
        return api_recipe(request)
    return recipe(output_type(out), quality or "high", mode or "balanced")


def check_sheet(sheet: Path, *, force: bool) -> None:
    """`check_writable` for the picture of the joint."""
    if sheet.suffix.lower() != ".png":
        raise _refusal(sheet, f"{sheet} is neither a .png file nor a folder; --inspect takes either, or no value.")
    check_writable(sheet, "", force=force)


def check_writable(out: Path, source: str, *, force: bool) -> None:
    """Raises InvalidRequest unless `out` can be written without harm: nothing is lost that is not meant to be."""
    if out.is_dir():
        raise _refusal(out, f"{out} is a folder; the output needs a file name.")
    if not out.parent.is_dir():
        raise _refusal(out, f"There is no folder {out.parent} to write {out.name} into.")
    if out.exists() and _is_same(out, source):
        raise _refusal(out, f"{out} is the source itself; the output needs another name.")
    if out.exists() and not force:
        raise _refusal(out, f"{out} is there already; --force overwrites it.")
    try:
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise _refusal(out, f"Nothing can be written into the folder {out.parent}: {error.strerror}.") from None


def _is_same(out: Path, source: str) -> bool:
    try:
        return out.samefile(source)
    except (OSError, ValueError):  # a URL or a data URI
        return False


def _refusal(out: Path, reason: str) -> InvalidRequest:
    return InvalidRequest(reason, loc=("output",), given=str(out))


def carry_out(
    ready: Prepared, out: Path, recipe: Recipe, settings: Settings, card: ModelCard, on_progress: OnProgress
) -> "Result":
    """Loads the model and the LoRAs and writes the video."""
    on_progress(Progress("load", 0, 1))
    from longtake.models import ltx2, ltxv
    from longtake.models.loras import LoraCache
    from longtake.take import adapters_of, take

    cache = LoraCache(settings.lora_cache_bytes)
    adapters = adapters_of(ready.plan, card, settings, cache, fetch=_fetch, any_path=True)
    load = ltx2.load if card.family == "ltx2" else ltxv.load
    models = load(card, settings, on_progress=on_progress)
    return take(ready, models, out, recipe, settings, adapters=adapters, on_progress=on_progress)


def _fetch(url: str, folder: Path, max_bytes: int) -> Path:
    return localise(url, folder, max_bytes=max_bytes)


def finish(result: "Result", sheet: Path | None) -> Outcome:
    """Reads the finished file back for its facts and, where a sheet is asked for, its joint."""
    with open_source(result.path) as file:
        joint = None if sheet is None else inspect(file, result.plan, sheet)
        notes = result.notes
        if sheet is not None and joint is None:
            notes = (*notes, "There is no joint to inspect: too few of the source's own frames or of new ones.")
        return Outcome(result, file.facts, joint, notes)
