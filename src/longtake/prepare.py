"""Hops 2 and 3 of a request: its video becomes an open source, and both become a plan. Without torch."""

import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import numpy as np
from numpy.typing import NDArray

from longtake.clip import Source
from longtake.endpoints import ENDPOINTS, ltx23, ltxv097, ltxv098
from longtake.endpoints.shared import source_field, source_url
from longtake.errors import InvalidRequest, Loc, LongtakeError, NotSupported
from longtake.media.fetch import localise
from longtake.media.formats import Recipe, recipe
from longtake.media.source import Limits, SourceReader, open_source
from longtake.media.still import open_still
from longtake.models.registry import CARDS, ModelCard, adapter, located, missing
from longtake.plan import AnyPlan, LoRA, LTX2Plan, LTXVPlan
from longtake.pricing import Prices
from longtake.settings import Settings

Request = ltxv097.Request | ltxv098.Request | ltx23.Request

LARGEST_SEED = 2**31 - 1


@dataclass(frozen=True)
class Prepared:
    """A request that is ready to be carried out: its open source, what will be done, and the end image
    [H, W, 3] where the plan has one."""

    source: SourceReader
    plan: AnyPlan
    end_image: NDArray[np.uint8] | None = None


@contextmanager
def prepared(
    request: Request,
    card: ModelCard,
    settings: Settings,
    *,
    allow_local: bool = False,
    new_frames: int | None = None,
    loras: tuple[LoRA, ...] = (),
    adjust: Callable[[Request, Source], Request] = lambda request, source: request,
    own_file: Callable[[str], Path | None] = lambda url: None,
    folder: Path | None = None,
    plan: AnyPlan | None = None,
    transport: httpx.BaseTransport | None = None,
) -> Iterator[Prepared]:
    """Fetches and opens what the request names and plans the work; the source closes with the block.

    A request without a seed gets one here, so that the plan fixes it. `allow_local`: video and image may be paths of
    this machine. `new_frames`, `loras`: see the endpoints' `plan`. `adjust` may fit the request to the source before
    it is planned. `own_file` finds the file of an address that is this machine's own. What is fetched stays in `folder`
    and is not fetched again; `plan` is that of an earlier try, to be carried out again. Downloads
    go through `transport`. Raises LongtakeError naming the field.
    """
    check_family(request, card)
    limits = Limits(max_pixels=settings.max_source_pixels, max_duration_s=settings.max_source_duration_s)
    with ExitStack() as stack:
        home = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="longtake-")))

        def fetched(url: str, name: str) -> Path:
            own = own_file(url)
            if own is not None:
                return own
            if (home / name).exists():
                return home / name
            path = localise(
                url, home, max_bytes=settings.max_source_bytes, allow_local=allow_local, transport=transport
            )
            return path.replace(home / name) if path.parent == home else path

        with naming(source_field(type(request))):
            source = stack.enter_context(open_source(fetched(source_url(request), "source"), limits=limits))
        if plan is None:
            seed = secrets.randbelow(LARGEST_SEED) if request.seed is None else request.seed
            fitted = adjust(request, source.facts)
            plan = plan_request(fitted, source.facts, card, seed, prices(settings), new_frames, loras)
            if isinstance(plan, LTXVPlan):
                passes = tuple(replace(pass_, acceleration=settings.acceleration) for pass_ in plan.passes)
                plan = replace(plan, passes=passes)
        check_parts(plan, card, settings)
        image = None
        if isinstance(request, ltx23.Request) and request.end_image_url is not None:
            with naming(("end_image_url",), told=True):
                image = open_still(fetched(request.end_image_url, "end_image"), limits=limits)
        yield Prepared(source, plan, image)


def recipe_of(request: Request) -> Recipe:
    """How the API writes the file: as the request says, where its endpoint has fields for that."""
    if isinstance(request, ltx23.Request):
        return recipe(request.video_output_type, request.video_quality, request.video_write_mode)
    return recipe("X264 (.mp4)", "high", "balanced")


@contextmanager
def naming(field: Loc, *, told: bool = False) -> Iterator[None]:
    """Gives an error that comes out of the block the field it is about; `told`: in its sentence too."""
    try:
        yield
    except LongtakeError as error:
        error.loc = error.loc or ("body", *field)
        if told:
            error.message = f"{'.'.join(map(str, field))}: {error.message}"
            error.args = (error.message,)
        raise


def check_family(request: Request, card: ModelCard) -> None:
    """Raises InvalidRequest where the endpoint's parameters are not this model's."""
    endpoint = next(module for module in ENDPOINTS.values() if isinstance(request, module.Request))
    if card.family != endpoint.FAMILY:
        able = [name for name, other in CARDS.items() if other.family == endpoint.FAMILY]
        raise InvalidRequest(
            f"{card.name} cannot do what {endpoint.ENDPOINT} asks for; {', '.join(able)} can.",
            loc=("model",),
            given=card.name,
            ctx={"supported": able},
        )


def check_parts(plan: AnyPlan, card: ModelCard, settings: Settings) -> None:
    """Raises NotSupported, naming the field, for what the plan needs beside the model and this machine lacks.

    Where the model itself is not here its loading says so; a plan can be made all the same.
    """
    if missing(card, settings):
        return
    if plan.num_passes > 1 and "upsampler" not in located(card, settings):
        field = "use_multiscale" if isinstance(plan, LTX2Plan) else "enable_detail_pass"
        raise NotSupported(
            f"{field} needs a latent upsampler, and {card.name} has none on this machine.",
            loc=("body", field),
            given=True,
        )
    if not isinstance(plan, LTX2Plan):
        return
    if plan.camera is not None:
        adapter(card, f"camera_{plan.camera}", settings, field="camera_lora")
    fields = ("distill_lora_first_pass_scale", "distill_lora_second_pass_scale")
    for scale, field in zip(plan.scales, fields, strict=False):
        if scale.distill:
            adapter(card, "distill", settings, field=field)


def plan_request(
    request: Request,
    source: Source,
    card: ModelCard,
    seed: int,
    prices: Prices,
    new_frames: int | None = None,
    loras: tuple[LoRA, ...] = (),
) -> AnyPlan:
    """The plan of a request, by its endpoint."""
    match request:
        case ltxv097.Request():
            return ltxv097.plan(request, source, card, seed, prices, new_frames)
        case ltxv098.Request():
            return ltxv098.plan(request, source, card, seed, prices, new_frames)
        case ltx23.Request():
            return ltx23.plan(request, source, card, seed, prices, new_frames, loras)


def prices(settings: Settings) -> Prices:
    """The prices that the settings name."""
    return Prices(
        ltxv097_per_video=settings.price_ltxv097_per_video,
        ltxv098_per_second=settings.price_ltxv098_per_second,
        ltxv098_detail_factor=settings.price_ltxv098_detail_factor,
        ltx2_per_megapixel=settings.price_ltx2_per_megapixel,
        ltx2_per_megapixel_with_lora=settings.price_ltx2_per_megapixel_with_lora,
    )
