"""The log: its two formats, and the secrets that it never contains."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from longtake.service.logs import redacted, setup
from longtake.settings import Settings

SECRET = "0123456789abcdef" * 4
KEY = f"11111111-2222-3333-4444-555555555555:{SECRET}"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    structlog.reset_defaults()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def logged(stream: io.StringIO) -> list[Any]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_each_line_is_a_json_object_with_the_request_id() -> None:
    out = io.StringIO()
    setup(Settings(), out)
    with structlog.contextvars.bound_contextvars(request_id="r-1"):
        structlog.get_logger("longtake.http").info("answered", status=200, path="/x\ny")
        logging.getLogger("longtake.worker.slot").warning("%s failed", "slot 0")
    structlog.get_logger("longtake.http").debug("not this")
    first, second = logged(out)
    assert (first["event"], first["status"], first["level"], first["logger"]) == (
        "answered",
        200,
        "info",
        "longtake.http",
    )
    assert (second["event"], second["level"], second["request_id"]) == ("slot 0 failed", "warning", "r-1")
    assert first["request_id"] == "r-1"
    assert first["timestamp"].endswith("Z")


def test_a_terminal_gets_readable_lines() -> None:
    out = Terminal()
    setup(Settings(), out)
    structlog.get_logger("longtake.server").info("draining", at_most_s=600)
    (line,) = out.getvalue().splitlines()
    assert "draining" in line
    assert "at_most_s" in line
    assert not line.startswith("{")


@pytest.mark.parametrize(("format", "terminal", "is_json"), [
    ("auto", True, False), ("auto", False, True), ("json", True, True), ("console", False, False),
])  # fmt: skip
def test_the_format_can_be_configured(format: Any, terminal: bool, is_json: bool) -> None:
    out = Terminal() if terminal else io.StringIO()
    setup(Settings(log_format=format), out)
    logging.getLogger("longtake").info("hello")
    assert out.getvalue().startswith("{") == is_json
    assert ("\x1b" in out.getvalue()) == (terminal and not is_json)


@pytest.mark.parametrize("terminal", [False, True])
def test_nobody_writes_lines_or_commands_into_the_log(terminal: bool) -> None:
    out = Terminal() if terminal else io.StringIO()
    setup(Settings(log_format="console" if terminal else "json"), out)
    hostile = "\x1b[31m\nINJECTED\x9b31m\u2028\u202e\x85"
    structlog.get_logger("longtake.http").warning(
        "answered", path=hostile, error=ValueError(hostile), nested={hostile: [hostile]}
    )
    logging.getLogger("longtake.worker").warning("failed: %s", hostile)
    shown = out.getvalue().replace("\x1b[0m", "").replace("\x1b[1m", "")
    assert "\\x9b31m\\u2028\\u202e\\x85" in shown.replace("\\\\", "\\")
    assert not set("\x9b\u2028\u202e\x85") & set(shown)
    assert "\x1b[31m\\nINJ" not in shown
    assert len(out.getvalue().split("\n")) == 3


def test_tracebacks_do_not_show_the_values_of_variables() -> None:
    for stream in (io.StringIO(), Terminal()):
        setup(Settings(), stream)

        def fail(token: str) -> None:
            raise ValueError("it broke")

        try:
            fail(SECRET)
        except ValueError:
            structlog.get_logger("longtake").exception("failed")
            logging.getLogger("longtake").exception("failed again")
        assert stream.getvalue().count("ValueError: it broke") == 2
        assert SECRET not in stream.getvalue()


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Key {KEY}",
        f"{{'authorization': 'Bearer {KEY}'}}",
        f"GET /x?fal_jwt_token={SECRET}&a=1",
        f"key {KEY} is wrong",
        KEY,
        f"postgresql://longtake:{SECRET}@db/longtake",
        f"https://host/file?X-Signature={SECRET}",
        f'{{"token": "{SECRET}"}}',
        f"password={SECRET}",
        f"data:video/mp4;base64,{SECRET}",
        f"data:,{SECRET}",
    ],
)
def test_secrets_are_redacted(text: str) -> None:
    assert SECRET not in redacted(text)
    out = io.StringIO()
    setup(Settings(), out)
    structlog.get_logger("longtake").info(text, given=text, several=[text], nested={"a": {"b": text}})
    logging.getLogger("uvicorn.error").error("failed: %s", text)
    assert len(logged(out)) == 2
    assert SECRET not in out.getvalue()


def test_ordinary_text_is_not_redacted() -> None:
    for text in (
        "the key frame 12 of 20",
        "POST /queue/fal-ai/ltx-2.3-22b/extend-video 200",
        "Request 11111111-2222-3333-4444-555555555555 ends",
        "token expired",
        "https://example.com:8443/clip.mp4",
        "data: 3 rows",
    ):
        assert redacted(text) == text


def test_long_values_are_shortened() -> None:
    assert len(redacted("a b " * 100_000)) < 2100
    assert len(redacted("data:video/mp4;base64," + "A" * 10**7)) < 100


def test_libraries_that_log_urls_are_quiet() -> None:
    out = io.StringIO()
    setup(Settings(), out)
    for name in ("httpx", "httpcore.connection", "uvicorn.access", "alembic.runtime.migration"):
        logging.getLogger(name).info("GET https://example.com/?token=abc")
    assert out.getvalue() == ""
    logging.getLogger("uvicorn.error").error("something")
    assert logged(out)[0]["event"] == "something"
