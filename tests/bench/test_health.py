"""The benchmark of `/health` under attacks: each attack reaches the server, and gets the answer that the limits say."""

import pytest

from bench import health
from bench.attacks import ATTACKS

ANSWERED = {
    "a header of 60 MB": {"431"},
    "350,000 errors": {"200"},  # few errors at this size
    "32,000 numbers elsewhere": {"400"},
    "600 half heads": {"opened"},
}
"""The answers to attacks of a small size that are not status 200."""


def test_each_attack_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    found = health.main(seconds=0, share=0.003)
    printed = capsys.readouterr().out
    for name in ATTACKS:
        figures = found[name]
        assert set(figures.answers) == ANSWERED.get(name, {"200"}), name
        assert figures.num_failed == 0, name
        assert 0 <= figures.computed <= figures.worst
        assert f"\n{name}" in printed
    assert "(aim: 100)" in printed
