"""Prompt expansion against a real OpenAI-compatible server on this machine."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from longtake.errors import Cancelled, ExpansionFailed
from longtake.prompts import expand
from longtake.settings import settings


@contextmanager
def server(
    status: int, answer: Any, may_answer: threading.Event | None = None
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yields the base URL of a chat server with one fixed answer, and the list of requests it received.

    may_answer: the server answers when it is set; None answers at once.
    """
    received: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            received.append(body | {"path": self.path, "key": self.headers.get("Authorization")})
            if may_answer is not None:
                may_answer.wait()
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode())

        def log_message(self, *_: Any) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}/v1", received
    http.shutdown()


def answer_with(text: str) -> dict[str, Any]:
    return {"choices": [{"message": {"content": text}}]}


def test_without_a_language_model_the_prompt_is_unchanged_and_a_note_says_why() -> None:
    prompt, note = expand("a cat", settings(expansion_url=None))
    assert prompt == "a cat"
    assert note is not None
    assert "LONGTAKE_EXPANSION_URL" in note


def test_the_prompt_is_replaced_by_the_answer_of_the_model() -> None:
    with server(200, answer_with(" A grey cat walks. ")) as (url, received):
        got = expand("a cat", settings(expansion_url=url, expansion_model="m", expansion_key="secret"))
    assert got == ("A grey cat walks.", None)
    (request,) = received
    assert (request["path"], request["model"], request["key"]) == ("/v1/chat/completions", "m", "Bearer secret")
    assert request["messages"][-1] == {"role": "user", "content": "a cat"}


def test_a_cancellation_does_not_wait_for_the_answer() -> None:
    may_answer = threading.Event()

    def cancel() -> None:
        raise Cancelled

    with server(200, answer_with("x"), may_answer) as (url, _):
        with pytest.raises(Cancelled):
            expand("a cat", settings(expansion_url=url, expansion_model="m"), cancel)
        may_answer.set()


def test_a_long_prompt_is_not_sent() -> None:
    long = "word " * 120
    with server(200, answer_with("x")) as (url, received):
        assert expand(long, settings(expansion_url=url, expansion_model="m"))[0] == long
    assert not received


@pytest.mark.parametrize(
    ("status", "answer"), [(500, {}), (200, b"not json"), (200, {"choices": []}), (200, {"choices": None})]
)
def test_a_failing_server_is_an_error_that_does_not_tell_its_address(status: int, answer: Any) -> None:
    with server(status, answer) as (url, _):
        configured = settings(expansion_url=url.replace("//", "//me:secret@"), expansion_model="m")
        with pytest.raises(ExpansionFailed, match=r"LONGTAKE_EXPANSION_URL answered (500|in another)") as caught:
            expand("a cat", configured)
    assert caught.value.loc == ("body", "prompt"), "a field of every endpoint"
    assert "secret" not in caught.value.message
    assert "127.0.0.1" not in caught.value.message


def test_a_server_that_cannot_be_reached_is_an_error() -> None:
    configured = settings(expansion_url="http://127.0.0.1:1/v1", expansion_model="m")
    with pytest.raises(ExpansionFailed, match=r"cannot be reached \(ConnectError\)"):
        expand("a cat", configured)


def test_an_empty_answer_leaves_the_prompt() -> None:
    with server(200, answer_with("  ")) as (url, _):
        prompt, note = expand("a cat", settings(expansion_url=url, expansion_model="m"))
    assert prompt == "a cat"
    assert note
