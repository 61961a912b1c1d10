"""Reads fal's object lifecycle header, with which a client sets how long a file is stored and who may read it."""

import json
import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

Decision = Literal["allow", "forbid", "hide"]
"""The answer to a request for a file. "allow": it is sent. "forbid": status 403. "hide": status 404."""

MAX_RETENTION_S = 100 * 365 * 86_400.0
"""Longest lifetime in seconds that a lifecycle can set (100 years). Longer ones are shortened to it."""


def parse(header: str | None) -> dict[str, Any] | None:
    """Returns the valid members of a lifecycle header as a dictionary, or None if there are none.

    The header is JSON: {"expiration_duration_seconds": number or null, "initial_acl": {"default": decision, "rules":
    [{"user": API key id, "decision": decision}]}}. A decision is "allow", "forbid" or "hide" (see `Decision`). The
    dictionary has the same form. Invalid members are ignored, as fal does.
    """
    try:
        value = json.loads(header or "null")
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    lifecycle: dict[str, Any] = {}
    if "expiration_duration_seconds" in value and _is_duration(value["expiration_duration_seconds"]):
        lifecycle["expiration_duration_seconds"] = value["expiration_duration_seconds"]
    rules = _valid_rules(value.get("initial_acl"))
    if rules:
        lifecycle["initial_acl"] = rules
    return lifecycle or None


def expires_at(lifecycle: Mapping[str, Any] | None, now: float, retention_s: float) -> float | None:
    """Returns the Unix time in seconds at which a file expires, or None if it never expires.

    `lifecycle`: what `parse` returned. Its duration counts from `now`; a duration of null or 0 means that the file
        never expires.
    `now`: the Unix time in seconds at which the file is stored.
    `retention_s`: the seconds until the file expires if the lifecycle is None or has no duration.
    """
    if lifecycle is None or "expiration_duration_seconds" not in lifecycle:
        return now + retention_s
    duration_s = lifecycle["expiration_duration_seconds"]
    return now + min(duration_s, MAX_RETENTION_S) if duration_s else None


def access_rules(lifecycle: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Returns the access rules in a lifecycle (see `parse`), or None if it has none.

    Their form is {"default": decision, "rules": [{"user": API key id, "decision": decision}]}; both members may be
    missing. A decision is "allow", "forbid" or "hide".
    """
    rules: dict[str, Any] | None = (lifecycle or {}).get("initial_acl")
    return rules


def _is_duration(value: Any) -> bool:
    if value is None:
        return True
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value >= 0 and (isinstance(value, int) or math.isfinite(value))


def _valid_rules(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {}
    decisions = get_args(Decision)
    valid: dict[str, Any] = {}
    if value.get("default") in decisions:
        valid["default"] = value["default"]
    listed = value.get("rules")
    rules = [
        {"user": rule["user"], "decision": rule["decision"]}
        for rule in (listed if isinstance(listed, list) else ())
        if isinstance(rule, dict) and isinstance(rule.get("user"), str) and rule.get("decision") in decisions
    ]
    if rules:
        valid["rules"] = rules
    return valid
