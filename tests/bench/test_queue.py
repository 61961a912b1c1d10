"""The benchmark of the queue carries out its requests and prints every figure."""

import re

import pytest

from bench import queue


def test_the_requests_end_and_every_figure_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    queue.here(count=4, idle_s=0.1)
    shown = capsys.readouterr().out
    for figure in (r"import [\d.]+ s, start [\d.]+ s", r"idle CPU", r"submit p50 [\d.]+ ms", r"gap p50 [\d.]+ ms"):
        assert re.search(figure, shown), shown
