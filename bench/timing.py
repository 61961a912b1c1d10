"""Times functions alternately (A B A B), so that a change of the machine's speed affects all of them."""

import statistics
import time
from collections.abc import Callable


def in_turn(rounds: int, **functions: Callable[[], object]) -> dict[str, list[float]]:
    """Returns the wall-clock seconds of each function in each round, without a first round that warms up."""
    timings: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(rounds + 1):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            if number:
                timings[name].append(time.perf_counter() - started)
    return timings


def ratio(timings: dict[str, list[float]], one: str, other: str) -> float:
    """Returns the median over all rounds of the seconds of `one` divided by those of `other`."""
    return statistics.median(a / b for a, b in zip(timings[one], timings[other], strict=True))


def show(title: str, timings: dict[str, list[float]]) -> None:
    """Prints the median and the least seconds of each function."""
    print(title)
    for name, seconds in timings.items():
        print(f"  {name:34s} median {statistics.median(seconds):8.3f} s   least {min(seconds):8.3f} s")
