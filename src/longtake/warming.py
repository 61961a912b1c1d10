"""Prepares a model for its first request, which then takes no longer than later ones.

The adapters that default requests use are read, and the code that these requests need is compiled.
"""

import logging
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from fractions import Fraction

from longtake.endpoints import ENDPOINTS
from longtake.endpoints.validation import parse
from longtake.errors import InvalidRequest, LongtakeError
from longtake.families import FAMILIES
from longtake.families.family import PlanRun
from longtake.host_memory import host_memory
from longtake.models.loras import open_adapters
from longtake.models.parts import AnyModel
from longtake.models.registry import ModelCard
from longtake.parameters import request_data
from longtake.plans import Plan, PlannedAdapter
from longtake.runner import Runner
from longtake.sampling.resume import NO_RESUME
from longtake.settings import Settings
from longtake.video import OnProgress, Progress, VideoInfo, ignore_progress, no_check

log = logging.getLogger(__name__)

PROMPT = "a moving camera"
"""The prompt of the requests for which a model is prepared. Any other would do."""

SOURCE = VideoInfo("mp4", "h264", 1280, 720, Fraction(24), 120)
"""The facts of the video that these requests extend: 5 seconds at a common size and rate."""


def warm_up(
    runner: Runner,
    card: ModelCard,
    plans: Sequence[Plan],
    settings: Settings,
    on_progress: OnProgress = ignore_progress,
) -> None:
    """Loads a model, and prepares it for requests with such plans.

    - Reads the model's own adapters that the plans name. The runner keeps them in memory.
    - On a GPU, or if the model's blocks are to be compiled: lets the model work for a few tokens and frames as each
      plan needs it, which compiles code.

    If a part of the preparation fails, the log says why, and the first request may take longer. Raises the errors of
    `Runner.load`.
    """
    model = runner.load(card, on_progress)
    adapters = {one.source: one for plan in plans for one in plan.adapters if one.own}
    kept = {name for name, adapter in adapters.items() if _read(runner, model, adapter, settings, on_progress)}
    if model.device.type == "cpu" and settings.compile != "on":
        return
    for number, plan in enumerate(plans):
        on_progress(Progress("load trials", number, len(plans)))
        try:
            _evaluate(runner, model, plan, kept, settings)
        except Exception as error:  # whatever fails here may succeed in a request, and is reported there if it does not
            log.warning("The first request to %s may take longer than later ones: %s", plan.endpoint, _reason(error))
    on_progress(Progress("load trials", len(plans), len(plans)))


def default_plans(card: ModelCard, settings: Settings) -> list[Plan]:
    """Returns the plans of the default requests of a model: for each endpoint that it serves, a request that has only a
    prompt and a video. Endpoints that refuse such a request are left out."""
    plans = []
    for endpoint in ENDPOINTS.values():
        if endpoint.model_choice(settings).card != card:
            continue
        with suppress(InvalidRequest):
            request = parse(endpoint.Request, request_data(endpoint, {"prompt": PROMPT}, {}, "source.mp4"))
            plans.append(endpoint.plan(endpoint.options(request, SOURCE), SOURCE, card, 0, {}))
    return plans


def _read(
    runner: Runner, model: AnyModel, adapter: PlannedAdapter, settings: Settings, on_progress: OnProgress
) -> bool:
    """Reads one of the model's own adapters, which the runner then keeps. Returns False, after logging the reason, if
    that is impossible."""
    on_progress(Progress("load adapters", 0, 1))
    pinned, started = runner.pins_adapters(model), time.perf_counter()
    try:
        with open_adapters([adapter], model.card, settings) as opened:
            num_bytes = opened[0].file.path.stat().st_size
            obstacle = _obstacle(num_bytes, settings, pinned=pinned)
            if obstacle is None:
                with runner.adapted(model, opened, no_check):
                    pass
    except Exception as error:  # a request that uses the adapter reports it
        obstacle = _reason(error)
    if obstacle is not None:
        log.warning("The adapter %s was not read in advance, so requests wait for it: %s", adapter.source, obstacle)
        return False
    kind, seconds = "pinned" if pinned else "ordinary", time.perf_counter() - started
    log.info(
        "The adapter %s (%.1f GB) is in %s host memory, after %.1f s.", adapter.source, num_bytes / 1e9, kind, seconds
    )
    return True


def _obstacle(num_bytes: int, settings: Settings, *, pinned: bool) -> str | None:
    """Returns a sentence about why an adapter of `num_bytes` bytes cannot be kept in host memory; None if it can.

    The system would kill a process that needs too much, and each process that is started in its place.
    """
    if num_bytes > settings.lora_cache_bytes:
        return f"it has {num_bytes} bytes, and LONGTAKE_LORA_CACHE_BYTES is {settings.lora_cache_bytes}."
    most = 2 * num_bytes if pinned else num_bytes  # torch rounds each pinned tensor up to a power of two bytes
    memory = host_memory()
    if memory is not None and most > memory.available:
        return f"it may need {most} bytes of host memory, and {memory.available} bytes are free."
    return None


def _evaluate(runner: Runner, model: AnyModel, plan: Plan, kept: Collection[str], settings: Settings) -> None:
    """Lets the model work for a few tokens and frames as a plan needs it.

    kept: the names of the adapters that are in memory. The plan's other adapters are left out.
    """
    adapters: Sequence[PlannedAdapter] = [one for one in plan.adapters if one.source in kept]
    with (
        open_adapters(adapters, model.card, settings) as opened,
        runner.adapted(model, opened, no_check) as set_pass,
    ):
        FAMILIES[model.card.family].recipe.warm_up(PlanRun(plan, model, settings, NO_RESUME, ignore_progress, set_pass))


def _reason(error: Exception) -> str:
    return error.message if isinstance(error, LongtakeError) else f"{type(error).__name__}: {str(error)[:300]}"
