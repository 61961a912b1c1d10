"""Lost bytes are reported once."""

import pytest

from longtake.storage.lost import MOST_REMEMBERED, report_lost


def test_each_loss_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    report_lost.cache_clear()
    for sentence in ("a is missing: 100 %", "b is missing", "a is missing: 100 %"):
        report_lost(sentence)
    assert caplog.messages == ["a is missing: 100 %", "b is missing"]
    assert {record.levelname for record in caplog.records} == {"ERROR"}


def test_many_losses_need_little_memory(caplog: pytest.LogCaptureFixture) -> None:
    for number in range(2 * MOST_REMEMBERED):
        report_lost(f"{number} is missing")
    assert report_lost.cache_info().currsize == MOST_REMEMBERED
