"""Hops 2 and 3 of a request: its video becomes an open source, and both become a plan. Without torch."""

import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from longtake.clip import Source
from longtake.endpoints import ltxv097, ltxv098
from longtake.errors import LongtakeError, NotSupported
from longtake.media.fetch import localise
from longtake.media.source import Limits, SourceReader, open_source
from longtake.models.registry import ModelCard, located
from longtake.plan import Plan
from longtake.pricing import Prices
from longtake.settings import Settings

Request = ltxv097.Request | ltxv098.Request

LARGEST_SEED = 2**31 - 1


@dataclass(frozen=True)
class Prepared:
    """A request that is ready to be carried out: its open source, and what will be done."""

    source: SourceReader
    plan: Plan


@contextmanager
def prepared(
    request: Request,
    card: ModelCard,
    settings: Settings,
    *,
    allow_local: bool = False,
    new_frames: int | None = None,
    adjust: Callable[[Request, Source], Request] = lambda request, source: request,
) -> Iterator[Prepared]:
    """Fetches and opens the request's video and plans the work; the source closes with the block.

    A request without a seed gets one here, so that the plan fixes it. `allow_local`: the video may be a path of
    this machine. `new_frames`: see the endpoints' `plan`. `adjust` may fit the request to the source before it is
    planned. Raises LongtakeError naming the field.
    """
    limits = Limits(max_pixels=settings.max_source_pixels, max_duration_s=settings.max_source_duration_s)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="longtake-")))
        try:
            path = localise(
                request.video.video_url, folder, max_bytes=settings.max_source_bytes, allow_local=allow_local
            )
            source = stack.enter_context(open_source(path, limits=limits))
        except LongtakeError as error:
            error.loc = error.loc or ("body", "video", "video_url")
            raise
        seed = secrets.randbelow(LARGEST_SEED) if request.seed is None else request.seed
        plan = plan_request(adjust(request, source.facts), source.facts, card, seed, prices(settings), new_frames)
        if len(plan.passes) > 1 and "upsampler" not in located(card, settings):
            raise NotSupported(
                f"The detail pass needs a latent upsampler, and {card.name} has none on this machine.",
                loc=("body", "enable_detail_pass"),
                given=True,
            )
        yield Prepared(source, plan)


def plan_request(
    request: Request, source: Source, card: ModelCard, seed: int, prices: Prices, new_frames: int | None
) -> Plan:
    """The plan of a request, by its endpoint."""
    if isinstance(request, ltxv097.Request):
        return ltxv097.plan(request, source, card, seed, prices, new_frames)
    return ltxv098.plan(request, source, card, seed, prices, new_frames)


def prices(settings: Settings) -> Prices:
    """The prices that the settings name."""
    return Prices(
        settings.price_ltxv097_per_video, settings.price_ltxv098_per_second, settings.price_ltxv098_detail_factor
    )
