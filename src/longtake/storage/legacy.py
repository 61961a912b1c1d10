"""Upgrades a data folder of version 0.1, which stored access rules in files instead of a column."""

import json
import logging
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from longtake.database.tables import files

log = logging.getLogger(__name__)

FOLDER = ".access"
"""Version 0.1 stored the rules of the file `<key>` as `.access/<key>`: {"owner": key id, "rules": access rules}."""

UNREADABLE = {"default": "hide"}
"""The access rules of a file whose own could not be read: only its owner may read it."""


def import_access_rules(engine: sa.Engine, store_folder: Path) -> None:
    """Copies the access rules from the files of version 0.1 into the rows of their files, then deletes those files.

    Rules of a file that this database does not know stay where they are, in case the settings name another database.
    Several servers may do this at the same time.
    """
    for path in (store_folder / FOLDER).glob("*"):
        try:
            rules = _rules(path.read_bytes())
        except FileNotFoundError:
            continue  # another server has just imported it
        with engine.begin() as connection:
            changed = connection.execute(sa.update(files).where(files.c.key == path.name).values(access=rules))
        if changed.rowcount:
            path.unlink(missing_ok=True)
            log.info("Imported the access rules of the file %s.", path.name)


def _rules(text: bytes) -> dict[str, Any]:
    try:
        rules = json.loads(text)["rules"]
    except (ValueError, KeyError, TypeError):
        rules = None
    if not isinstance(rules, dict):
        log.warning("Access rules of an earlier version cannot be read; only the file's owner may read it.")
        return UNREADABLE
    return rules
