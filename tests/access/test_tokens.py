"""Tokens: what they say is believed for as long as they say, and nothing else is."""

import json
import time

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longtake.access.keys import LOCAL, Keys
from longtake.access.tokens import ANONYMOUS, Claim, Tokens, _decode, _encode
from longtake.database.secret import secret


@pytest.fixture
def tokens(engine: sa.Engine) -> Tokens:
    return Tokens(engine)


def test_a_token_says_what_it_was_made_for(tokens: Tokens) -> None:
    claim = tokens.verify(tokens.make("key-1", "run", within_s=60, apps=["ltx-2.3-22b"]))
    assert claim is not None
    assert (claim.key_id, claim.purpose, claim.apps) == ("key-1", "run", ("ltx-2.3-22b",))
    assert 58 < claim.expires_at - time.time() <= 60


def test_a_token_ends(tokens: Tokens) -> None:
    token = tokens.make("key-1", "run", within_s=0.02)
    time.sleep(0.03)
    assert tokens.verify(token) is None
    day = tokens.verify(tokens.make("key-1", "run", within_s=10**9))
    assert isinstance(day, Claim)
    assert day.expires_at < time.time() + 25 * 3600


def test_another_server_of_the_database_believes_it_and_another_database_does_not(tokens: Tokens) -> None:
    token = tokens.make("key-1", "upload", within_s=60)
    assert Tokens(tokens.engine).verify(token) is not None
    with tokens.engine.begin() as connection:
        connection.execute(sa.text("delete from secrets"))
    assert Tokens(tokens.engine).verify(token) is None


def test_a_changed_token_is_nothing(tokens: Tokens) -> None:
    head, body, signature = tokens.make("key-1", "run", within_s=60).encode().split(b".")
    claims = json.loads(_decode(body)) | {"sub": "key-2"}
    forged = _encode(json.dumps(claims).encode())
    unsigned = _encode(b'{"alg":"none","typ":"JWT"}')
    for token in (head + b"." + forged + b"." + signature, unsigned + b"." + forged + b".", head + b"." + body + b"."):
        assert tokens.verify(token.decode()) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(text=st.text())
def test_whatever_comes_is_no_token(tokens: Tokens, text: str) -> None:
    assert tokens.verify(text) is None


def test_a_token_stands_for_its_key_as_long_as_that_works(tokens: Tokens) -> None:
    keys = Keys(tokens.engine, cache_s=0)
    early = tokens.make("local", "run", within_s=60)
    assert tokens.caller(early, "run", keys) == LOCAL
    key_id = keys.create("me", "admin", 3).partition(":")[0]
    token = tokens.make(key_id, "run", within_s=60, apps=["ltx-2.3-22b"])
    holder = tokens.caller(token, "run", keys)
    assert holder is not None
    assert (holder.key_id, holder.scope, holder.max_in_flight) == (key_id, "run", 3)
    assert holder.may_run("fal-ai/ltx-2.3-22b/extend-video")
    assert not holder.may_run("fal-ai/ltx-video-v097/extend")
    assert tokens.caller(token, "upload", keys) is None
    assert tokens.caller(early, "run", keys) is None, "keys are in use now"
    assert tokens.caller(tokens.make("proxy", "run", within_s=60), "run", keys) == ANONYMOUS
    keys.revoke(key_id)
    assert tokens.caller(token, "run", keys) is None


def test_secrets_are_made_once(engine: sa.Engine) -> None:
    assert secret(engine, "a") == secret(engine, "a") != secret(engine, "b")
    assert len(secret(engine, "a")) == 32
