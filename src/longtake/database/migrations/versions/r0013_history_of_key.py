"""Adds the index with which the newest requests of one API key are found without reading all its others."""

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.create_index("requests_of_key_by_age", "requests", ["key_id", "seq"])
