"""Adds the index with which the newest and the oldest file are found without reading all others."""

from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.create_index("files_created", "files", ["created_at"])
