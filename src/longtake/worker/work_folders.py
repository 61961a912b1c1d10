"""The folders in which worker processes store the source and the finished steps of unfinished requests."""

import shutil
from pathlib import Path

import sqlalchemy as sa

from longtake.queue import engine as queue
from longtake.settings import Settings


def work_folder(settings: Settings, request_id: str) -> Path:
    """Returns the path of a request's folder, which may not exist. All attempts on one machine share it."""
    return settings.data_dir / "work" / request_id


def remove_work_folder(settings: Settings, request_id: str) -> None:
    """Removes the folder of a request, if it exists."""
    shutil.rmtree(work_folder(settings, request_id), ignore_errors=True)


def remove_ended(engine: sa.Engine, settings: Settings) -> None:
    """Removes the folders of all requests that have ended or are unknown."""
    parent = settings.data_dir / "work"
    for folder in parent.iterdir() if parent.is_dir() else ():
        row = queue.get(engine, folder.name)
        if row is None or row.has_ended:
            remove_work_folder(settings, folder.name)
