"""Timing things in turn: A B A B, so that a drifting machine drifts for both."""

import statistics
import time
from collections.abc import Callable


def in_turn(rounds: int, **things: Callable[[], object]) -> dict[str, list[float]]:
    """Wall seconds of each thing per round, after one round that is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in things}
    for number in range(rounds + 1):
        for name, thing in things.items():
            started = time.perf_counter()
            thing()
            if number:
                taken[name].append(time.perf_counter() - started)
    return taken


def ratio(taken: dict[str, list[float]], one: str, other: str) -> float:
    """The median of `one / other`, round by round."""
    return statistics.median(a / b for a, b in zip(taken[one], taken[other], strict=True))


def show(title: str, taken: dict[str, list[float]]) -> None:
    print(title)
    for name, seconds in taken.items():
        print(f"  {name:34s} median {statistics.median(seconds):8.3f} s   least {min(seconds):8.3f} s")
