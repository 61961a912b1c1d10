"""Deletes the inputs and results of requests whose clients asked not to store them (`X-Fal-Store-IO: 0`)."""

import time

import sqlalchemy as sa

from longtake.database.connection import is_temporary
from longtake.periodic import Repeating
from longtake.queue.history import erase_unstored

KEPT_S = 45 * 60
"""Seconds after the end of a request for which its result can still be fetched."""

EVERY_S = 5 * 60
"""Seconds between two deletions. With KEPT_S it makes less than an hour."""


def eraser(engine: sa.Engine) -> Repeating:
    """Returns a background thread that deletes these inputs and results within an hour after a request's end."""

    def erase() -> float:
        erase_unstored(engine, time.time() - KEPT_S)
        return EVERY_S

    return Repeating("erasure", erase, failure="Payloads cannot be erased", is_temporary=is_temporary)
