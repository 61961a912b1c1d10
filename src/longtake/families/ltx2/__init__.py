"""LTX-2.3: extends video forward or backward, with sound, in one pass or two.

If there are two passes, the second one refines the result of the first at twice its width and height.
"""

from typing import TYPE_CHECKING

from longtake.families.family import Family
from longtake.families.ltx2.describe import describe
from longtake.families.ltx2.options import LTX2Options
from longtake.families.ltx2.plan import LTX2Plan, make_plan

if TYPE_CHECKING:
    from longtake.families.ltx2.model import LTX2Model
    from longtake.models.registry import LTX2Card

FAMILY: "Family[LTX2Options, LTX2Card, LTX2Plan, LTX2Model]" = Family(
    name="ltx2",
    makes_sound=True,
    Plan=LTX2Plan,
    make_plan=make_plan,
    describe=describe,
    module="longtake.families.ltx2.generate",
)
