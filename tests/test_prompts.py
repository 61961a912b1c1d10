"""Prompt expansion against a real OpenAI-compatible server on this machine."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from longtake.errors import ExpansionFailed
from longtake.prompts import expand
from longtake.settings import settings


@contextmanager
def server(status: int, answer: Any) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A chat server that always answers the same; yields its base URL and the requests it got."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(body | {"path": self.path, "key": self.headers.get("Authorization")})
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode())

        def log_message(self, *_: Any) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}/v1", asked
    http.shutdown()


def said(text: str) -> dict[str, Any]:
    return {"choices": [{"message": {"content": text}}]}


def test_without_a_model_the_prompt_stays_and_the_log_says_so() -> None:
    prompt, note = expand("a cat", settings(expansion_url=None))
    assert prompt == "a cat"
    assert note is not None
    assert "LONGTAKE_EXPANSION_URL" in note


def test_the_model_is_asked_and_its_answer_used() -> None:
    with server(200, said(" A grey cat walks. ")) as (url, asked):
        got = expand("a cat", settings(expansion_url=url, expansion_model="m", expansion_key="secret"))
    assert got == ("A grey cat walks.", None)
    (request,) = asked
    assert (request["path"], request["model"], request["key"]) == ("/v1/chat/completions", "m", "Bearer secret")
    assert request["messages"][-1] == {"role": "user", "content": "a cat"}


def test_a_long_prompt_says_enough() -> None:
    long = "word " * 120
    with server(200, said("x")) as (url, asked):
        assert expand(long, settings(expansion_url=url, expansion_model="m"))[0] == long
    assert not asked


@pytest.mark.parametrize(
    ("status", "answer"), [(500, {}), (200, b"not json"), (200, {"choices": []}), (200, {"choices": None})]
)
def test_a_server_that_fails_is_an_error_in_words(status: int, answer: Any) -> None:
    with server(status, answer) as (url, _):
        given = settings(expansion_url=url, expansion_model="m")
        with pytest.raises(ExpansionFailed, match="The prompt could not be expanded by http"):
            expand("a cat", given)


def test_silence_leaves_the_prompt() -> None:
    with server(200, said("  ")) as (url, _):
        prompt, note = expand("a cat", settings(expansion_url=url, expansion_model="m"))
    assert prompt == "a cat"
    assert note
