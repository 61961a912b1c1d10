"""Random secrets that all servers of a database share. A secret is created by the first server that needs it."""

import secrets

import sqlalchemy as sa

from longtake.database.connection import reading
from longtake.database.tables import secrets as table

SIZE = 32
"""The length of a secret in bytes."""


def secret(engine: sa.Engine, name: str) -> bytes:
    """Returns the secret with this name: 32 random bytes (SIZE), the same for all servers that use this database.

    If the database has no secret with this name yet, creates it.
    """
    found = _read(engine, name)
    if found is None:
        try:
            with engine.begin() as connection:
                connection.execute(sa.insert(table).values(name=name, value=secrets.token_bytes(SIZE)))
        except sa.exc.IntegrityError:
            pass  # another server has inserted it first
        found = _read(engine, name)
    assert found is not None
    return found


def _read(engine: sa.Engine, name: str) -> bytes | None:
    with reading(engine) as connection:
        value = connection.execute(sa.select(table.c.value).where(table.c.name == name)).scalar()
    return None if value is None else bytes(value)
