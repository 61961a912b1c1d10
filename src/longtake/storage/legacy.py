"""Upgrades a data folder of version 0.1, which stored the files' access rules in files instead of the database."""

import json
import logging
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from longtake.database.tables import files

log = logging.getLogger(__name__)

FOLDER = ".access"
"""Version 0.1 stored the access rules of the file `<key>` in `.access/<key>`, as JSON {"owner": ..., "rules": ...}."""

UNREADABLE = {"default": "hide"}
"""The access rules for a file whose stored rules cannot be read. They let only the owner read the file."""


def import_access_rules(engine: sa.Engine, store_folder: Path) -> None:
    """Imports access rules of version 0.1 from the folder `.access` in `store_folder` into the table `files`.

    A file in `.access` is deleted after its rules were imported. It remains if the database has no row for its key,
    because the settings may name the wrong database. Several servers may do this at the same time.
    """
    for path in (store_folder / FOLDER).glob("*"):
        try:
            rules = _rules(path.name, path.read_bytes())
        except FileNotFoundError:
            continue  # another server has just imported and deleted it
        with engine.begin() as connection:
            changed = connection.execute(sa.update(files).where(files.c.key == path.name).values(access=rules))
        if changed.rowcount:
            path.unlink(missing_ok=True)
            log.info("Imported the access rules of the file %s.", path.name)


def _rules(key: str, text: bytes) -> dict[str, Any]:
    try:
        rules = json.loads(text)["rules"]
    except (ValueError, KeyError, TypeError):
        rules = None
    if not isinstance(rules, dict):
        log.warning("The access rules of the file %s cannot be read; now only its owner may read the file.", key)
        return UNREADABLE
    return rules
