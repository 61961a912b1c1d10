"""Adds what the deletion of old requests needs: a column for the time of erasure, indexes, and counts of deleted
requests.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("requests", sa.Column("erased_at", sa.Double(), nullable=True))
    op.create_index(
        "requests_to_erase",
        "requests",
        ["store_io", "completed_at"],
        unique=False,
        sqlite_where=sa.text("erased_at IS NULL"),
        postgresql_where=sa.text("erased_at IS NULL"),
    )
    op.create_index("uploads_expiring", "uploads", ["expires_at"], unique=False)
    op.create_table(
        "deleted_requests",
        sa.Column("endpoint", sa.String(length=200), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("status_code", sa.Integer(), nullable=False),
        sa.Column("count", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.PrimaryKeyConstraint("endpoint", "state", "status_code"),
    )
