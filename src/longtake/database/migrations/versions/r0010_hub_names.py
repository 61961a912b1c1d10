"""Adds where LoRAs of the hub are after their download for a request that waits."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("fetches", sa.Column("hub_names", sa.JSON(), nullable=True))
