"""Work on a request's row that fails at first, or always."""

import threading
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from longtake.database.connection import RetriesStopped
from longtake.worker.retries import Retries

AWAY = sa.exc.OperationalError("select", {}, Exception("database is locked"))
"""A temporary error."""


def failing(*errors: Exception) -> Callable[[], str]:
    """Returns a function that raises each of the errors, and then returns "done"."""
    left = list(errors)

    def do() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return do


def test_a_temporary_error_is_followed_by_another_call() -> None:
    retries = Retries("r", threading.Event())
    assert retries.until_done(failing(AWAY)) == "done"
    assert retries.or_else(failing(AWAY), failing(), failure="%s failed") == "done"


def test_another_error_is_followed_by_the_alternative() -> None:
    retries = Retries("r", threading.Event())
    assert retries.or_else(failing(KeyError()), lambda: "otherwise", failure="%s failed") == "otherwise"
    assert retries.once(failing(KeyError()), "otherwise", action="a test") == "otherwise"
    with pytest.raises(KeyError):
        retries.until_done(failing(KeyError()))


def test_a_stopping_server_does_not_call_again() -> None:
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(RetriesStopped):
        Retries("r", stopping).or_else(failing(AWAY), failing(), failure="%s failed")
