"""No text from elsewhere commands a terminal, begins a line, or changes the direction of what follows."""

import pytest

from longtake.errors import InvalidRequest, entry
from longtake.printable import printable, printable_lines
from longtake.service.responses import request_error
from longtake.worker.request_log import log_line

HOSTILE = "a\x1b[31m\nb\x7f\x85\x9b31m\u2028\u202e\u2066\ud800"
SHOWN = "a\\x1b[31m\\nb\\x7f\\x85\\x9b31m\\u2028\\u202e\\u2066\\ud800"


def test_unprintable_characters_become_escapes() -> None:
    assert printable(HOSTILE) == SHOWN
    assert printable_lines("\t\r\n" + HOSTILE) == "\t\\r\n" + SHOWN.replace("\\n", "\n")


@pytest.mark.parametrize("text", ["", "grün 日本 \u00a0 👩\u200d🚀", "\\x1b"])
def test_other_characters_stay(text: str) -> None:
    assert printable(text) == printable_lines(text) == text


def test_messages_have_no_unprintable_characters() -> None:
    error = InvalidRequest(HOSTILE)
    assert error.message == str(error) == error.detail()["msg"] == SHOWN
    assert entry(("body",), HOSTILE.replace("\ud800", ""), "value_error", None)["msg"] == SHOWN.removesuffix("\\ud800")
    assert request_error(400, HOSTILE).body == b'{"detail":"%s"}' % SHOWN.replace("\\", "\\\\").encode()
    assert log_line(HOSTILE).message == SHOWN
