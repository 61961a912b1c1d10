"""Adds the table of previews of running requests."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.create_table(
        "previews",
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("asked", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer()),
        sa.Column("picture", sa.LargeBinary()),
        sa.Column("step", sa.Integer()),
        sa.Column("steps", sa.Integer()),
        sa.Column("window", sa.Integer()),
        sa.Column("windows", sa.Integer()),
        sa.ForeignKeyConstraint(["request_id"], ["requests.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("request_id"),
    )
