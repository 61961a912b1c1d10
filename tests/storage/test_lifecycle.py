"""fal's lifecycle header: valid settings are read, others are ignored."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.storage.lifecycle import MAX_RETENTION_S, expires_at, parse


@pytest.mark.parametrize(
    ("header", "lifecycle"),
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
def test_valid_settings_are_read(header: str | None, lifecycle: dict[str, Any] | None) -> None:
    assert parse(header) == lifecycle


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda values: (
            st.lists(values)
            | st.dictionaries(
                st.sampled_from(["expiration_duration_seconds", "initial_acl", "default", "rules", "user", "decision"]),
                values,
            )
        ),
    )
)
def test_any_json_is_read_or_ignored(value: Any) -> None:
    lifecycle = parse(json.dumps(value))
    until = expires_at(lifecycle, 1000.0, 60.0)
    assert until is None or 1000.0 <= until <= 1000.0 + MAX_RETENTION_S
    json.dumps(lifecycle, allow_nan=False)


def test_a_file_expires_after_its_duration_or_the_default() -> None:
    assert expires_at(None, 100.0, 60.0) == 160.0
    assert expires_at({"initial_acl": {"default": "hide"}}, 100.0, 60.0) == 160.0
    assert expires_at({"expiration_duration_seconds": 5}, 100.0, 60.0) == 105.0
    assert expires_at({"expiration_duration_seconds": None}, 100.0, 60.0) is None
    assert expires_at({"expiration_duration_seconds": 0}, 100.0, 60.0) is None
    assert expires_at({"expiration_duration_seconds": 10**400}, 0.0, 60.0) == MAX_RETENTION_S
