"""Adds a table of the stored parts of unfinished uploads, so that they can be counted and found without a search."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "upload_parts",
        sa.Column("token", sa.String(length=100), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("etag", sa.String(length=32), primary_key=True),
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
    )
    op.create_index("upload_parts_of_key", "upload_parts", ["key_id"], unique=False)
