"""Adds two columns to the table of requests: the keys of the blobs that contain a large input and a large result."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("requests", sa.Column("body_blob", sa.String(length=200), nullable=True))
    op.add_column("requests", sa.Column("output_blob", sa.String(length=200), nullable=True))
