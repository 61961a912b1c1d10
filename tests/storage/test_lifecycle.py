"""fal's lifecycle header: what is meant is kept, what is malformed is ignored."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.storage.lifecycle import LONGEST_S, decision, expires_at, parse


@pytest.mark.parametrize(
    ("header", "meant"),
    [
        (None, None),
        ("", None),
        ("{", None),
        ("[" * 100_000, None),
        ("[]", None),
        ('"1h"', None),
        ("{}", None),
        ('{"expiration_duration_seconds": 60}', {"expiration_duration_seconds": 60}),
        ('{"expiration_duration_seconds": null}', {"expiration_duration_seconds": None}),
        ('{"expiration_duration_seconds": -1}', None),
        ('{"expiration_duration_seconds": true}', None),
        ('{"expiration_duration_seconds": "60"}', None),
        ('{"expiration_duration_seconds": NaN}', None),
        (
            '{"expiration_duration_seconds": Infinity, "initial_acl": {"default": "hide"}}',
            {"initial_acl": {"default": "hide"}},
        ),
        ('{"initial_acl": {"default": "shout"}}', None),
        (
            '{"initial_acl": {"rules": [{"user": "a", "decision": "allow"}, {"user": 1, "decision": "allow"}, 7]}}',
            {"initial_acl": {"rules": [{"user": "a", "decision": "allow"}]}},
        ),
    ],
)
def test_parse(header: str | None, meant: dict[str, Any] | None) -> None:
    assert parse(header) == meant


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda kin: (
            st.lists(kin)
            | st.dictionaries(
                st.sampled_from(["expiration_duration_seconds", "initial_acl", "default", "rules", "user", "decision"]),
                kin,
            )
        ),
    )
)
def test_whatever_comes_is_read_or_ignored(given_value: Any) -> None:
    meant = parse(json.dumps(given_value))
    until = expires_at(meant, 1000.0, 60.0)
    assert until is None or 1000.0 <= until <= 1000.0 + LONGEST_S
    json.dumps(meant, allow_nan=False)


def test_expires_at() -> None:
    assert expires_at(None, 100.0, 60.0) == 160.0
    assert expires_at({"initial_acl": {"default": "hide"}}, 100.0, 60.0) == 160.0
    assert expires_at({"expiration_duration_seconds": 5}, 100.0, 60.0) == 105.0
    assert expires_at({"expiration_duration_seconds": None}, 100.0, 60.0) is None
    assert expires_at({"expiration_duration_seconds": 0}, 100.0, 60.0) is None
    assert expires_at({"expiration_duration_seconds": 10**400}, 0.0, 60.0) == LONGEST_S


def test_decision() -> None:
    rules = {"default": "forbid", "rules": [{"user": "a", "decision": "allow"}, {"user": "b", "decision": "hide"}]}
    assert decision(None, "me", None) == "allow"
    assert decision(rules, "me", "me") == "allow"
    assert decision(rules, "me", "a") == "allow"
    assert decision(rules, "me", "b") == "hide"
    assert decision(rules, "me", "c") == "forbid"
    assert decision(rules, "me", None) == "forbid"
    assert decision({"rules": rules["rules"]}, "me", None) == "allow"
