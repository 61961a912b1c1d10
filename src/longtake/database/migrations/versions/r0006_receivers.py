"""Adds two columns to the table of webhooks: the API key and the host."""

from urllib.parse import urlsplit

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column(
        "webhook_deliveries", sa.Column("key_id", sa.String(length=64), server_default=sa.text("''"), nullable=False)
    )
    op.add_column(
        "webhook_deliveries", sa.Column("host", sa.String(length=255), server_default=sa.text("''"), nullable=False)
    )
    op.execute(
        "UPDATE webhook_deliveries SET key_id = "
        "(SELECT requests.key_id FROM requests WHERE requests.id = webhook_deliveries.request_id)"
    )
    connection = op.get_bind()
    waiting = connection.execute(sa.text("SELECT request_id, url FROM webhook_deliveries WHERE state = 'waiting'"))
    hosts = [{"id": row.request_id, "host": urlsplit(row.url).hostname or ""} for row in waiting]
    if hosts:
        connection.execute(sa.text("UPDATE webhook_deliveries SET host = :host WHERE request_id = :id"), hosts)
