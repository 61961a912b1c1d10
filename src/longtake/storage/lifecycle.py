"""How long a client wants its files kept and who may fetch them: fal's object lifecycle header."""

import json
import math
from collections.abc import Mapping
from typing import Any, Literal

Decision = Literal["allow", "forbid", "hide"]
DECISIONS: tuple[Decision, ...] = ("allow", "forbid", "hide")

LONGEST_S = 100 * 365 * 86_400.0


def parse(header: str | None) -> dict[str, Any] | None:
    """What the header says, of `{"expiration_duration_seconds": N | null, "initial_acl": {"default", "rules": [{"user",
    "decision"}]}}`; None where it says nothing. What is malformed is ignored, as fal does."""
    try:
        given = json.loads(header or "null")
    except (ValueError, RecursionError):
        return None
    if not isinstance(given, dict):
        return None
    meant: dict[str, Any] = {}
    if "expiration_duration_seconds" in given and _is_duration(given["expiration_duration_seconds"]):
        meant["expiration_duration_seconds"] = given["expiration_duration_seconds"]
    rules = _rules(given.get("initial_acl"))
    if rules:
        meant["initial_acl"] = rules
    return meant or None


def expires_at(lifecycle: Mapping[str, Any] | None, now: float, keep_s: float) -> float | None:
    """When a file made now ends, None for never: `keep_s` from now where the client wants nothing else. Null and 0 mean
    never."""
    if lifecycle is None or "expiration_duration_seconds" not in lifecycle:
        return now + keep_s
    asked = lifecycle["expiration_duration_seconds"]
    return now + min(asked, LONGEST_S) if asked else None


def decision(rules: Mapping[str, Any] | None, owner: str, key_id: str | None) -> Decision:
    """What becomes of the wish of `key_id` (None: nobody known) to fetch a file of `owner` with these access rules."""
    if not rules or key_id == owner:
        return "allow"
    for rule in rules.get("rules", ()):
        if rule["user"] == key_id:
            found: Decision = rule["decision"]
            return found
    default: Decision = rules.get("default", "allow")
    return default


def _is_duration(given: Any) -> bool:
    if given is None:
        return True
    if isinstance(given, bool) or not isinstance(given, int | float):
        return False
    return given >= 0 and (isinstance(given, int) or math.isfinite(given))


def _rules(given: Any) -> dict[str, Any]:
    if not isinstance(given, dict):
        return {}
    rules: dict[str, Any] = {}
    if given.get("default") in DECISIONS:
        rules["default"] = given["default"]
    listed = given.get("rules")
    kept = [
        {"user": rule["user"], "decision": rule["decision"]}
        for rule in (listed if isinstance(listed, list) else ())
        if isinstance(rule, dict) and isinstance(rule.get("user"), str) and rule.get("decision") in DECISIONS
    ]
    if kept:
        rules["rules"] = kept
    return rules
