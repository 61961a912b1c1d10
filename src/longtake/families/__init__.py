"""The table of model families, and the JSON of their plans."""

from collections.abc import Mapping
from typing import Any

from longtake.families import ltx2, ltxv
from longtake.families.family import Family
from longtake.plans import FORM, Plan

FAMILIES: Mapping[str, Family[Any, Any, Any, Any]] = {family.name: family for family in (ltxv.FAMILY, ltx2.FAMILY)}
"""Every family by its name."""


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """Returns the plan as plain JSON values; rates are written as fractions."""
    return FAMILIES[plan.family].plan_to_json(plan)


def plan_from_json(document: Mapping[str, Any]) -> Plan | None:
    """Returns the plan that `plan_to_json` wrote; None if another version of the program wrote it in another form."""
    if document.get("form") != FORM or document.get("family") not in FAMILIES:
        return None
    plan: Plan = FAMILIES[document["family"]].plan_from_json(dict(document))
    return plan
