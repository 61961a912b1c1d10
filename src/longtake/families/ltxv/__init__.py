"""LTX-Video 0.9.x: picture, guided by noise level, in one pass or two, in overlapping windows."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from longtake.families.family import Context, Family, Frames, Piece, Work
from longtake.families.ltxv.describe import describe
from longtake.families.ltxv.options import LTXVOptions
from longtake.families.ltxv.plan import LTXVPlan, make_plan
from longtake.models.registry import LTXVCard
from longtake.settings import Settings
from longtake.video import OnProgress

if TYPE_CHECKING:
    from longtake.families.ltxv.parts import LTXVParts


def _load(card: LTXVCard, settings: Settings, on_progress: OnProgress) -> "LTXVParts":
    from longtake.families.ltxv import parts

    return parts.load(card, settings, on_progress=on_progress)


def _expand(work: "Work[LTXVPlan, LTXVParts]", frame: Frames) -> tuple[str, str | None]:
    from longtake.families.ltxv import generate

    return generate.expand(work, frame)


def _generate(work: "Work[LTXVPlan, LTXVParts]", prompt: str, context: Context) -> Iterator[Piece]:
    from longtake.families.ltxv import generate

    return generate.generate(work, prompt, context)


FAMILY: "Family[LTXVOptions, LTXVCard, LTXVPlan, LTXVParts]" = Family(
    name="ltxv",
    Plan=LTXVPlan,
    make_plan=make_plan,
    describe=describe,
    load=_load,
    expand=_expand,
    generate=_generate,
)
