"""LTX-Video 0.9.x: extends video without sound, in one pass or two."""

from typing import TYPE_CHECKING

from longtake.families.family import Family
from longtake.families.ltxv.describe import describe
from longtake.families.ltxv.options import LTXVOptions
from longtake.families.ltxv.plan import LTXVPlan, make_plan

if TYPE_CHECKING:
    from longtake.families.ltxv.model import LTXVModel
    from longtake.models.registry import LTXVCard

FAMILY: "Family[LTXVOptions, LTXVCard, LTXVPlan, LTXVModel]" = Family(
    name="ltxv",
    makes_sound=False,
    Plan=LTXVPlan,
    make_plan=make_plan,
    describe=describe,
    module="longtake.families.ltxv.generate",
)
