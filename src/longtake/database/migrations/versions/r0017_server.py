"""Renames the column with the id of the server that works on a request: it is no worker process."""

from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.execute("ALTER TABLE requests RENAME COLUMN worker TO server")
