"""Renames the column `worker` of the table of requests to `server`, because it has the id of a server."""

from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.execute("ALTER TABLE requests RENAME COLUMN worker TO server")
