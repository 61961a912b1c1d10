"""What all slots of one server work with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa

from longtake.settings import Settings
from longtake.storage.files import NewFile
from longtake.worker.claims import Claims
from longtake.worker.messages import Done


class Files(Protocol):
    """The server's stored files, as far as slots use them."""

    def own_file(self, url: str, key_id: str | None) -> Path | None:
        """Returns the stored file behind a URL. None if there is none that the caller `key_id` may read."""

    def add_result(self, request_id: str, file: NewFile, path: Path) -> str:
        """Moves the file at `path` into the store as a request's result. Returns its key, the same one every time."""


@dataclass(frozen=True)
class SlotContext:
    """What all slots of one server work with.

    `on_change(request_id)` is called after each change of a request, `on_done` with each result that was stored.
    `command` starts a worker process.
    """

    engine: sa.Engine
    settings: Settings
    files: Files
    claims: Claims
    on_change: Callable[[str], None]
    on_done: Callable[[Done], None]
    command: Sequence[str]
