"""Adds the size of the files that were downloaded for a request, so that their disk space is bounded."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.add_column("fetches", sa.Column("num_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
