"""All model families, and the conversion of their plans to JSON and back."""

from collections.abc import Mapping
from typing import Any

from longtake.families import ltx2, ltxv
from longtake.families.family import Family
from longtake.plans import FORM, Plan

FAMILIES: Mapping[str, Family[Any, Any, Any, Any]] = {family.name: family for family in (ltxv.FAMILY, ltx2.FAMILY)}
"""All model families, by name."""


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """Returns the plan of a video as JSON values: dicts, lists, strings, numbers, booleans and None. A rate is a text
    such as `24000/1001`."""
    return FAMILIES[plan.family].plan_to_json(plan)


def plan_from_json(document: Mapping[str, Any]) -> Plan | None:
    """Returns the plan of a video that `plan_to_json` turned into `document`.

    Returns None if another version of the program wrote the document, so that its entry `form` is not the number
    `plans.FORM`, or if its entry `family` names no known family. Raises pydantic's ValidationError if the document's
    fields do not make a plan.
    """
    if document.get("form") != FORM or document.get("family") not in FAMILIES:
        return None
    plan: Plan = FAMILIES[document["family"]].plan_from_json(dict(document))
    return plan
