"""Tokens: valid for their time and purpose, and only if they were issued here."""

import base64
import json
import time
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import OctKey

from longtake.access.keys import LOCAL, Keys
from longtake.access.tokens import ANONYMOUS, MAX_LIFE_S, Tokens
from longtake.database.secret import secret


@pytest.fixture
def tokens(engine: sa.Engine) -> Tokens:
    return Tokens(engine)


def test_a_token_has_the_claims_that_it_was_issued_with(tokens: Tokens) -> None:
    claims = tokens.verify(tokens.issue("key-1", "run", within_s=60, apps=["ltx-2.3-22b"]))
    assert claims is not None
    assert (claims.key_id, claims.purpose, claims.apps) == ("key-1", "run", ("ltx-2.3-22b",))
    assert 0 < claims.expires_at - time.time() <= 60


def test_a_token_expires(tokens: Tokens) -> None:
    token = tokens.issue("key-1", "run", within_s=0.001)
    time.sleep(0.01)
    assert tokens.verify(token) is None
    longest = tokens.verify(tokens.issue("key-1", "run", within_s=10**9))
    assert longest is not None
    assert longest.expires_at <= time.time() + MAX_LIFE_S


def test_a_token_is_valid_on_servers_of_its_database_only(tokens: Tokens) -> None:
    token = tokens.issue("key-1", "upload", within_s=60)
    assert Tokens(tokens.engine).verify(token) is not None
    with tokens.engine.begin() as connection:
        connection.execute(sa.text("delete from secrets"))
    assert Tokens(tokens.engine).verify(token) is None


def test_a_changed_token_is_not_valid(tokens: Tokens) -> None:
    head, body, signature = tokens.issue("key-1", "run", within_s=60).split(".")
    forged = jwt.encode(
        {"alg": "HS256"},
        {"sub": "key-2", "aud": "run", "apps": [], "exp": time.time() + 60},
        OctKey.import_key(b"another secret, 32 bytes or more"),
    )
    _, other_body, other_signature = forged.split(".")
    unsigned = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0"  # {"alg":"none","typ":"JWT"}
    for parts in (
        (head, other_body, signature),
        (head, body, other_signature),
        (head, other_body, other_signature),
        (unsigned, other_body, ""),
        (head, body, ""),
    ):
        assert tokens.verify(".".join(parts)) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(text=st.text(st.characters(codec=None)))
def test_arbitrary_text_is_no_token(tokens: Tokens, text: str) -> None:
    assert tokens.verify(text) is None
    assert tokens.verify(f"{text}.{text}.{text}") is None


@pytest.mark.parametrize("header", [{"crit": [{}]}, {"crit": 1}, {"crit": ["b64"], "b64": 1}, {"kid": {}}, {"alg": []}])
def test_a_header_that_anybody_may_write_is_no_error(tokens: Tokens, header: dict[str, Any]) -> None:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()) for part in ({"alg": "HS256"} | header, {"sub": "x"})]
    assert tokens.verify(b".".join((*parts, b"AAAA")).decode()) is None
    assert tokens.verify(b".".join((b"[" * 100_000, parts[1], b"AAAA")).decode()) is None


def test_a_token_is_valid_as_long_as_its_key(tokens: Tokens) -> None:
    keys = Keys(tokens.engine, cache_s=0)
    early = tokens.issue("local", "run", within_s=60)
    assert tokens.caller(early, "run", keys) == LOCAL
    key_id = keys.create("me", "admin", 3).partition(":")[0]
    token = tokens.issue(key_id, "run", within_s=60, apps=["ltx-2.3-22b"])
    holder = tokens.caller(token, "run", keys)
    assert holder is not None
    assert (holder.key_id, holder.scope, holder.max_in_flight) == (key_id, "token", 3)
    assert holder.may_run("fal-ai/ltx-2.3-22b/extend-video")
    assert not holder.may_run("fal-ai/ltx-video-v097/extend")
    assert tokens.caller(token, "upload", keys) is None
    assert tokens.caller(early, "run", keys) is None, "callers need a key now"
    assert tokens.caller(tokens.issue("proxy", "run", within_s=60), "run", keys) == ANONYMOUS
    keys.revoke(key_id)
    assert tokens.caller(token, "run", keys) is None


def test_a_secret_is_created_once(engine: sa.Engine) -> None:
    assert secret(engine, "a") == secret(engine, "a") != secret(engine, "b")
    assert len(secret(engine, "a")) == 32
