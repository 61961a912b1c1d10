"""The pauses of a machine that fails."""

from pathlib import Path

from longtake.worker.machine import LONGEST_PAUSE_S, PAUSE_S, has_room, pause_s


def test_pauses_double_up_to_the_longest_one() -> None:
    assert [pause_s(earlier) for earlier in range(3)] == [PAUSE_S, 2 * PAUSE_S, 4 * PAUSE_S]
    assert [pause_s(earlier) for earlier in (5, 100_000)] == [LONGEST_PAUSE_S] * 2


def test_a_disk_that_cannot_be_looked_at_does_not_count_as_full(tmp_path: Path) -> None:
    assert has_room(tmp_path / ("x" * 300)), "the name is too long for the system"
