"""The pauses of a machine that fails."""

from longtake.worker.machine import LONGEST_PAUSE_S, PAUSE_S, pause_s


def test_pauses_double_up_to_the_longest_one() -> None:
    assert [pause_s(earlier) for earlier in range(3)] == [PAUSE_S, 2 * PAUSE_S, 4 * PAUSE_S]
    assert [pause_s(earlier) for earlier in (5, 100_000)] == [LONGEST_PAUSE_S] * 2
