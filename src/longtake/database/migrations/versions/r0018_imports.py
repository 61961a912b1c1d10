"""Adds the table of files that were fetched from elsewhere and stored as uploads."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.create_table(
        "imports",
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("url_hash", sa.String(length=64), nullable=False),
        sa.Column("file_key", sa.String(length=200), nullable=False),
        sa.Column("imported_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["file_key"], ["files.key"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("key_id", "url_hash"),
    )
    op.create_index("imports_of_file", "imports", ["file_key"])
