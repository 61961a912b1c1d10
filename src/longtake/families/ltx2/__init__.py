"""LTX-2.3: picture and sound, forward or backward, guided per modality, in one scale or two."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from longtake.families.family import Context, Family, Frames, Piece, Work
from longtake.families.ltx2.describe import describe
from longtake.families.ltx2.options import LTX2Options
from longtake.families.ltx2.plan import LTX2Plan, make_plan
from longtake.models.registry import LTX2Card
from longtake.settings import Settings
from longtake.video import OnProgress

if TYPE_CHECKING:
    from longtake.families.ltx2.parts import LTX2Parts


def _load(card: LTX2Card, settings: Settings, on_progress: OnProgress) -> "LTX2Parts":
    from longtake.families.ltx2 import parts

    return parts.load(card, settings, on_progress=on_progress)


def _expand(work: "Work[LTX2Plan, LTX2Parts]", frame: Frames) -> tuple[str, str | None]:
    from longtake.families.ltx2 import generate

    return generate.expand(work, frame)


def _generate(work: "Work[LTX2Plan, LTX2Parts]", prompt: str, context: Context) -> Iterator[Piece]:
    from longtake.families.ltx2 import generate

    return generate.generate(work, prompt, context)


FAMILY: "Family[LTX2Options, LTX2Card, LTX2Plan, LTX2Parts]" = Family(
    name="ltx2",
    Plan=LTX2Plan,
    make_plan=make_plan,
    describe=describe,
    load=_load,
    expand=_expand,
    generate=_generate,
)
