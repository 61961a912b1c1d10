"""Adds a column to the table of requests: the progress of a running request."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("requests", sa.Column("progress", sa.JSON(), nullable=True))
