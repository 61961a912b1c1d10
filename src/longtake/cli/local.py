"""A request of the command line on this machine: what was asked, its open source, and the file to write."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from longtake.cli.inspection import inspect
from longtake.cli.options import json_input, request_data
from longtake.cli.show import Outcome
from longtake.clip import OnProgress, Progress, Source
from longtake.endpoints import endpoint, ltxv098
from longtake.endpoints.shared import parse
from longtake.errors import InvalidRequest
from longtake.media.fetch import localise
from longtake.media.formats import OutputType, Quality, Recipe, WriteMode, recipe
from longtake.media.source import open_source
from longtake.models.registry import ModelCard, card, default_model
from longtake.prepare import Prepared, Request, prepared
from longtake.settings import Settings

if TYPE_CHECKING:
    from longtake.take import Result

NEW_FRAMES = 96
"""How many frames are added where nothing says how many: four seconds at 24 frames per second."""

MAX_RATE = 60
"""The fastest that the endpoints play; a faster source is resampled to it."""


@dataclass(frozen=True)
class Asked:
    """A parsed request and the model to do it with.

    `new_frames`: all of the source is kept and so many frames are added; None: the endpoint's own counting.
    `own_rate`: the output plays at the source's rate. `may_resample`: a source too fast for that is resampled.
    """

    request: Request
    card: ModelCard
    new_frames: int | None
    own_rate: bool
    may_resample: bool


def ask(
    given: Mapping[str, Any],
    settings: Settings,
    *,
    source: str | None,
    endpoint_name: str,
    model: str | None = None,
    json_file: str | None = None,
    new_frames: int | None = None,
) -> Asked:
    """What the options ask for. Raises InvalidRequest for what cannot be asked, by name."""
    module = endpoint(endpoint_name)
    data = request_data(given, json_input(json_file), source, module.ENDPOINT)
    if "num_frames" in data and new_frames is not None:
        raise InvalidRequest(
            "Both --num-frames (the whole video) and --new-frames (what is added) are given; give one of them.",
            loc=("body", "num_frames"),
            given=data["num_frames"],
        )
    video = data["video"]
    if video.get("conditioning_type", "rgb") != "rgb" and new_frames is not None:
        data["num_frames"] = new_frames
    request: Request = parse(module.Request, data, forbid_unknown=True)
    return Asked(
        request=request,
        card=default_model(module.ENDPOINT, settings) if model is None else card(model),
        new_frames=None if "num_frames" in data else new_frames or NEW_FRAMES,
        own_rate="frame_rate" not in data,
        may_resample="resample_fps" not in video and "target_fps" not in video,
    )


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
        asked.request, asked.card, settings, allow_local=True, new_frames=asked.new_frames, adjust=adjust
    ) as ready:
        yield ready


def recipe_for(out: Path, quality: Quality, mode: WriteMode) -> Recipe:
    """How a file of this name is written. Raises InvalidRequest for a suffix that no recipe has."""
    recipes = {made.suffix: made for made in (recipe(type, quality, mode) for type in get_args(OutputType))}
    if out.suffix.lower() not in recipes:
        raise InvalidRequest(
            f"{out.name} ends in {out.suffix or 'no suffix'}; its type is told by one of {', '.join(recipes)}.",
            loc=("output",),
            given=str(out),
        )
    return recipes[out.suffix.lower()]


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
    from longtake.models import ltxv
    from longtake.models.lora_files import Lora
    from longtake.models.loras import LoraCache, gather
    from longtake.take import take

    loras = [Lora(lora.path, lora.scale, lora.weight_name) for lora in ready.plan.loras]
    adapters = gather(loras, settings, LoraCache(settings.lora_cache_bytes), fetch=_fetch, any_path=True)
    models = ltxv.load(card, settings, on_progress=on_progress)
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
