"""Work folders, in which worker processes store the sources and the finished steps of requests that have not ended."""

import shutil
from pathlib import Path

import sqlalchemy as sa

from longtake import temporary
from longtake.database.connection import is_temporary
from longtake.periodic import Repeating
from longtake.queue import engine as queue
from longtake.settings import Settings

SWEEP_S = 3600.0
"""Seconds between two searches for folders that dead processes left."""


def _parent(settings: Settings) -> Path:
    return settings.data_dir / "work"


def make_parent(settings: Settings) -> None:
    """Creates the folder of all work folders, unless it exists. Raises OSError if that is not possible."""
    _parent(settings).mkdir(parents=True, exist_ok=True)


def work_folder(settings: Settings, request_id: str) -> Path:
    """Returns the path of a request's work folder. The folder need not exist.

    All attempts to carry out the request on one machine use the same folder.
    """
    return _parent(settings) / request_id


def remove_work_folder(settings: Settings, request_id: str) -> None:
    """Removes the work folder of a request, if it exists. Errors are ignored."""
    shutil.rmtree(work_folder(settings, request_id), ignore_errors=True)


def sweeper(engine: sa.Engine, settings: Settings) -> Repeating:
    """Returns a background thread that deletes what dead processes left: temporary folders, and old work folders.

    A work folder is old if its request has ended or is not in the database. The thread deletes when it starts, and then
    every hour (SWEEP_S). The caller must start it.
    """

    def sweep() -> float:
        remove_ended(engine, settings)
        temporary.sweep(settings)
        return SWEEP_S

    return Repeating(
        "work folder sweeper",
        sweep,
        failure="Old work folders could not be deleted",
        is_temporary=is_temporary,
        retry_s=60,
    )


def remove_ended(engine: sa.Engine, settings: Settings) -> None:
    """Removes the work folders of all requests that have ended or are not in the database."""
    parent = _parent(settings)
    for folder in parent.iterdir() if parent.is_dir() else ():
        row = queue.get_without_payloads(engine, folder.name)
        if row is None or row.has_ended:
            remove_work_folder(settings, folder.name)
