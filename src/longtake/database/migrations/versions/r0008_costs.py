"""Adds columns to the index of requests by time, so that reports of costs read only the index and not the table."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.drop_index("requests_created", "requests")
    op.create_index("requests_created", "requests", ["created_at", "endpoint", "key_id", "price_usd"], unique=False)
