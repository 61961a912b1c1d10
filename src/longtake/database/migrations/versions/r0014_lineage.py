"""Adds the columns that connect a request with the one whose video it extends, and the text in which it is searched.

Requests that are stored already get the text. They are connected with no other request.
"""

import json

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

BATCH = 500
CHARACTERS = 2000


def upgrade() -> None:
    op.add_column("requests", sa.Column("source", sa.String(length=200)))
    op.add_column("requests", sa.Column("parent", sa.String(length=64)))
    op.add_column("requests", sa.Column("root", sa.String(length=64)))
    op.add_column("requests", sa.Column("search_text", sa.Text()))
    not_null = sa.text("root IS NOT NULL")
    op.create_index("requests_of_tree", "requests", ["root", "seq"], sqlite_where=not_null, postgresql_where=not_null)
    connection, last = op.get_bind(), 0
    stored = sa.text(
        "SELECT seq, body FROM requests WHERE seq > :last AND erased_at IS NULL AND body_blob IS NULL "
        f"ORDER BY seq LIMIT {BATCH}"
    )
    while rows := connection.execute(stored, {"last": last}).all():
        last = rows[-1].seq
        texts = [{"seq": row.seq, "text": _search_text(bytes(row.body))} for row in rows]
        connection.execute(sa.text("UPDATE requests SET search_text = :text WHERE seq = :seq"), texts)


def _search_text(body: bytes) -> str:
    try:
        value = json.loads(body)
    except ValueError:
        return ""
    prompt = value.get("prompt") if isinstance(value, dict) else None
    return prompt.replace("\0", "").casefold()[:CHARACTERS] if isinstance(prompt, str) else ""
