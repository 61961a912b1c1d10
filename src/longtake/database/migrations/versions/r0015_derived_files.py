"""Adds a table of the files that are made from stored ones, such as a strip of a video's frames."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.create_table(
        "derived_files",
        sa.Column("file_key", sa.String(length=200), sa.ForeignKey("files.key", ondelete="CASCADE"), primary_key=True),
        sa.Column("kind", sa.String(length=20), primary_key=True),
        sa.Column("form", sa.String(length=40), primary_key=True),
        sa.Column("made_at", sa.Double(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("blob", sa.String(length=200)),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("blob", name="one_derived_file_per_blob"),
    )
