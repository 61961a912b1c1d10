"""The families of models, by name."""

from collections.abc import Mapping
from typing import Any

from longtake.families import ltx2, ltxv
from longtake.families.family import Family
from longtake.plans import FORM, Plan

FAMILIES: Mapping[str, Family[Any, Any, Any, Any]] = {family.name: family for family in (ltxv.FAMILY, ltx2.FAMILY)}


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """The plan as plain JSON values; rates are written as fractions."""
    return FAMILIES[plan.family].plan_to_json(plan)


def plan_from_json(document: Mapping[str, Any]) -> Plan | None:
    """The plan that `plan_to_json` wrote; None for one that another version of the program wrote in another form."""
    if document.get("form") != FORM or document.get("family") not in FAMILIES:
        return None
    plan: Plan = FAMILIES[document["family"]].plan_from_json(dict(document))
    return plan
