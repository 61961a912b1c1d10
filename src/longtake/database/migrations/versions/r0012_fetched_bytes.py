"""Adds a column with the bytes of the files that were downloaded for a request. The server limits their sum."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.add_column("fetches", sa.Column("num_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
