"""The objects that all slots of one server share. A slot is a thread with a device and a worker process."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from longtake.settings import Settings
from longtake.storage.files import FileStore
from longtake.worker.claims import Claims
from longtake.worker.messages import Done


@dataclass(frozen=True)
class SlotContext:
    """The objects that all slots of one server share. A slot is a thread with a device and a worker process.

    `engine`: the engine of the server's database.
    `store`: the store to which results and the files of waiting requests are moved.
    `claims`: the requests that the slots have claimed.
    `on_change`: called with a request's id after each change of the request, from the slot's thread.
    `on_done`: called with a worker process's message `Done` after the result was stored, from the slot's thread.
    `on_unusable`: called with a sentence, from the slot's thread, if no worker process can work on this machine.
    `command`: the program of a worker process and its arguments.
    """

    engine: sa.Engine
    settings: Settings
    store: FileStore
    claims: Claims
    on_change: Callable[[str], None]
    on_done: Callable[[Done], None]
    on_unusable: Callable[[str], None]
    command: Sequence[str]
