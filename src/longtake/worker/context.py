"""What all slots of one server work with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from longtake.settings import Settings
from longtake.storage.files import FileStore
from longtake.worker.claims import Claims
from longtake.worker.messages import Done


@dataclass(frozen=True)
class SlotContext:
    """What all slots of one server work with.

    `on_change(request_id)` is called after each change of a request, `on_done` with each result that was stored.
    `command` starts a worker process.
    """

    engine: sa.Engine
    settings: Settings
    store: FileStore
    claims: Claims
    on_change: Callable[[str], None]
    on_done: Callable[[Done], None]
    command: Sequence[str]
