"""Splits work over many rows into batches, because a long transaction makes all other writers wait.

PostgreSQL also refuses a statement with more than 65,535 values.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

BATCH = 500
"""Maximum number of rows that one statement reads or names by their keys."""
CHANGED_BATCH = 20
"""Maximum number of rows that one background transaction deletes or changes, if they can be large."""
PAUSE_S = 0.1
"""Seconds between two background transactions that delete or change rows, so that other writers get a turn."""

Item = TypeVar("Item")


def batches(items: Iterable[Item], size: int = BATCH) -> Iterator[list[Item]]:
    """Yields the items in lists of `size` items. The last list may be shorter.

    The items of a list are read from `items` only when the list is needed.
    """
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch
