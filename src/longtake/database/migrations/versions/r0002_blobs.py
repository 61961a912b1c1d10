"""Adds the columns `blob` and `access` to the table of files, and renames the table of servers."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("files", sa.Column("blob", sa.String(length=200), nullable=True))
    op.add_column("files", sa.Column("access", sa.JSON(), nullable=True))
    op.execute("UPDATE files SET blob = key")
    with op.batch_alter_table("files") as table:
        table.alter_column("blob", existing_type=sa.String(length=200), nullable=False)
    op.rename_table("workers", "servers")
