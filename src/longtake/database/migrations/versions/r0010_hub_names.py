"""Adds the column `hub_names` to the table of downloads: the paths of LoRAs that were downloaded from the Hugging Face
hub."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("fetches", sa.Column("hub_names", sa.JSON(), nullable=True))
