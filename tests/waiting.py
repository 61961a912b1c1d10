"""The pauses of tests that wait for a condition."""

import time

SHORTEST_S, LONGEST_S = 0.005, 0.25


def pause(begun: float) -> None:
    """Sleeps before the next look at a condition.

    begun: when the test began to wait for it, by `time.monotonic`.

    Each look takes processor time from the server or the worker process that the test waits for. So the pauses grow:
    a wait takes at most a twentieth longer than it must.
    """
    time.sleep(min(max(SHORTEST_S, (time.monotonic() - begun) / 20), LONGEST_S))
