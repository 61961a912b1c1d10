"""The tables. Times are seconds since 1970 as told by the clock of whoever wrote them: for people, never for leases."""

import sqlalchemy as sa

metadata = sa.MetaData()

Integer = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Json = sa.JSON()

requests = sa.Table(
    "requests",
    metadata,
    sa.Column("seq", Integer, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(64), nullable=False, unique=True),
    sa.Column("endpoint", sa.String(200), nullable=False),
    sa.Column("pool", sa.String(100), nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("key_id", sa.String(64), nullable=False),
    sa.Column("idempotency_key", sa.String(255)),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("base_url", sa.String(2000), nullable=False),
    sa.Column("webhook_url", sa.Text),
    sa.Column("store_io", sa.Boolean, nullable=False),
    sa.Column("may_retry", sa.Boolean, nullable=False),
    sa.Column("lifecycle", Json),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("start_by", sa.Double),
    sa.Column("started_at", sa.Double),
    sa.Column("completed_at", sa.Double),
    sa.Column("cancel_at", sa.Double),
    sa.Column("worker", sa.String(64)),
    sa.Column("attempt", sa.Integer, nullable=False, default=0),
    sa.Column("version", sa.Integer, nullable=False, default=0),
    sa.Column("plan", Json),
    sa.Column("status_code", sa.Integer),
    sa.Column("headers", Json),
    sa.Column("output", sa.LargeBinary),
    sa.Column("error", sa.Text),
    sa.Column("error_type", sa.String(100)),
    sa.Column("timings", Json),
    sa.Column("price_usd", sa.String(40), nullable=False, default="0"),
    sa.UniqueConstraint("key_id", "idempotency_key", name="one_request_per_idempotency_key"),
    sa.Index("requests_waiting", "pool", "state", "priority", "seq"),
    sa.Index("requests_of_key", "key_id", "state"),
    sa.Index("requests_to_start", "state", "start_by"),
    sa.Index("requests_created", "created_at"),
    sa.Index(
        "requests_ended",
        "endpoint",
        "state",
        "status_code",
        sqlite_where=sa.text("status_code IS NOT NULL"),
        postgresql_where=sa.text("status_code IS NOT NULL"),
    ),
)
"""One row per request, its whole truth. `body` and `output` are JSON as bytes; `state` is one of `requests.State`;
`version` counts its changes."""

events = sa.Table(
    "request_events",
    metadata,
    sa.Column("seq", Integer, primary_key=True, autoincrement=True),
    sa.Column("request_id", sa.String(64), sa.ForeignKey("requests.id", ondelete="CASCADE"), nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("level", sa.String(10), nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("labels", Json, nullable=False),
    sa.Index("events_of_request", "request_id", "seq"),
)
"""What is told about a request while it is worked on: its log."""

servers = sa.Table(
    "workers",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("boot", sa.String(64), nullable=False),
    sa.Column("born", Integer, nullable=False),
    sa.Column("beats", Integer, nullable=False),
    sa.Column("beat_at", sa.Double, nullable=False),
)
"""The processes that work on requests, each as long as it beats. `boot` tells one boot of a host (and one space of
process ids) from another, `born` one process from a later one with its id."""

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("secret_hash", sa.String(200), nullable=False),
    sa.Column("alias", sa.String(200), nullable=False),
    sa.Column("scope", sa.String(20), nullable=False),
    sa.Column("max_in_flight", sa.Integer),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("revoked_at", sa.Double),
)

files = sa.Table(
    "files",
    metadata,
    sa.Column("key", sa.String(200), primary_key=True),
    sa.Column("key_id", sa.String(64), nullable=False),
    sa.Column("request_id", sa.String(64)),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("content_type", sa.String(200), nullable=False),
    sa.Column("size", Integer, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double),
    sa.Index("files_expiring", "expires_at"),
    sa.Index("files_of_request", "request_id"),
)
"""Finished files of the store: uploads, and results of requests."""

uploads = sa.Table(
    "uploads",
    metadata,
    sa.Column("token", sa.String(100), primary_key=True),
    sa.Column("file_key", sa.String(200), nullable=False),
    sa.Column("key_id", sa.String(64), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("content_type", sa.String(200), nullable=False),
    sa.Column("multipart", sa.Boolean, nullable=False),
    sa.Column("lifecycle", Json),
    sa.Column("expires_at", sa.Double, nullable=False),
)
"""Uploads that were promised and are not finished; the token is the capability to write."""

secrets = sa.Table(
    "secrets",
    metadata,
    sa.Column("name", sa.String(100), primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
)
"""What the servers of one database sign with."""

deliveries = sa.Table(
    "webhook_deliveries",
    metadata,
    sa.Column("request_id", sa.String(64), sa.ForeignKey("requests.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_at", sa.Double, nullable=False),
    sa.Column("give_up_at", sa.Double, nullable=False),
    sa.Column("last_error", sa.Text),
    sa.Index("deliveries_due", "state", "next_at"),
)
"""Webhooks; `state` is waiting, delivered or given_up. A row is made in the transaction that ends its request."""
