"""Adds a column that counts the attempts at a download. A download that crashes each server that tries it is given
up."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("fetches", sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False))
