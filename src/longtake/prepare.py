"""Hops 2 and 3 of a request: its video becomes an open source, and both become a plan. Without torch."""

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from longtake.endpoints import ltxv097, ltxv098
from longtake.errors import LongtakeError
from longtake.media.fetch import localise
from longtake.media.source import Limits, SourceReader, open_source
from longtake.models.registry import ModelCard
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
    request: Request, card: ModelCard, settings: Settings, *, allow_local: bool = False, new_frames: int | None = None
) -> Iterator[Prepared]:
    """Fetches and opens the request's video and plans the work; the source closes with the block.

    A request without a seed gets one here, so that the plan fixes it. `allow_local`: the video may be a path of
    this machine. `new_frames`: see the endpoints' `plan`. Raises LongtakeError naming the field.
    """
    limits = Limits(max_pixels=settings.max_source_pixels, max_duration_s=settings.max_source_duration_s)
    with tempfile.TemporaryDirectory(prefix="longtake-") as folder:
        try:
            path = localise(
                request.video.video_url, Path(folder), max_bytes=settings.max_source_bytes, allow_local=allow_local
            )
            with open_source(path, limits=limits) as source:
                yield Prepared(source, plan_request(request, source, card, settings, new_frames))
        except LongtakeError as error:
            error.loc = error.loc or ("body", "video", "video_url")
            raise


def plan_request(
    request: Request, source: SourceReader, card: ModelCard, settings: Settings, new_frames: int | None
) -> Plan:
    """The plan of a request for an open source."""
    seed = secrets.randbelow(LARGEST_SEED) if request.seed is None else request.seed
    prices = Prices(
        settings.price_ltxv097_per_video, settings.price_ltxv098_per_second, settings.price_ltxv098_detail_factor
    )
    if isinstance(request, ltxv097.Request):
        return ltxv097.plan(request, source.facts, card, seed, prices, new_frames)
    return ltxv098.plan(request, source.facts, card, seed, prices, new_frames)


def endpoint_of(request: BaseModel) -> str:
    """The id of the endpoint that a request is for."""
    return ltxv097.ENDPOINT if isinstance(request, ltxv097.Request) else ltxv098.ENDPOINT
