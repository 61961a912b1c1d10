"""The tables of the database.

All times are Unix times in seconds by the clock of the machine that wrote them. These clocks differ, so no time in the
database is used to decide whether a server is alive.
"""

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
    sa.Column("ready", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("started_at", sa.Double),
    sa.Column("completed_at", sa.Double),
    sa.Column("cancel_at", sa.Double),
    sa.Column("server", sa.String(64)),
    sa.Column("attempt", sa.Integer, nullable=False, default=0),
    sa.Column("version", sa.Integer, nullable=False, default=0),
    sa.Column("plan", Json),
    sa.Column("progress", Json),
    sa.Column("status_code", sa.Integer),
    sa.Column("headers", Json),
    sa.Column("output", sa.LargeBinary),
    sa.Column("error", sa.Text),
    sa.Column("error_type", sa.String(100)),
    sa.Column("timings", Json),
    sa.Column("price_usd", sa.String(40), nullable=False, default="0"),
    sa.Column("erased_at", sa.Double),
    sa.Column("body_blob", sa.String(200)),
    sa.Column("output_blob", sa.String(200)),
    sa.Column("source", sa.String(200)),
    sa.Column("parent", sa.String(64)),
    sa.Column("root", sa.String(64)),
    sa.Column("search_text", sa.Text),
    sa.UniqueConstraint("key_id", "idempotency_key", name="one_request_per_idempotency_key"),
    sa.Index("requests_waiting", "pool", "state", "priority", "seq"),
    sa.Index("requests_claimable", "pool", "state", "ready", "priority", "seq"),
    sa.Index("requests_of_key", "key_id", "state"),
    sa.Index("requests_of_key_by_age", "key_id", "seq"),
    sa.Index("requests_to_start", "state", "start_by"),
    sa.Index(
        "requests_of_tree",
        "root",
        "seq",
        sqlite_where=sa.text("root IS NOT NULL"),
        postgresql_where=sa.text("root IS NOT NULL"),
    ),
    sa.Index("requests_created", "created_at", "endpoint", "key_id", "price_usd"),
    sa.Index(
        "requests_ended",
        "endpoint",
        "state",
        "status_code",
        sqlite_where=sa.text("status_code IS NOT NULL"),
        postgresql_where=sa.text("status_code IS NOT NULL"),
    ),
    sa.Index(
        "requests_to_erase",
        "store_io",
        "completed_at",
        sqlite_where=sa.text("erased_at IS NULL"),
        postgresql_where=sa.text("erased_at IS NULL"),
    ),
)
"""The requests. The columns are explained at `queue.requests.RequestRow`."""

fetches = sa.Table(
    "fetches",
    metadata,
    sa.Column("request_id", sa.String(64), sa.ForeignKey("requests.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("key_id", sa.String(64), nullable=False),
    sa.Column("pool", sa.String(100), nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("seq", Integer, nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("server", sa.String(64)),
    sa.Column("attempt", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("files", Json, nullable=False),
    sa.Column("blobs", Json, nullable=False),
    sa.Column("hub_names", Json),
    sa.Column("num_bytes", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Index("fetches_by_state", "state", "key_id", "pool", "priority", "seq"),
)
"""The downloads of files for requests that wait: one row for each request that names such files.

`key_id`, `pool`, `priority`, `seq`: the values of the request's row.
`state`: "waiting"; "running"; "done" (all files are downloaded); "ended" (the request has ended, so the downloaded
    files can be deleted).
`server`: the id of the server that downloads the files; null unless `state` is running.
`attempt`: the number of attempts so far, including a running one. Attempts that their server stopped do not count.
`files`: the files, a list of [url, field, kind, must_be_stored] (see `queue.requests.RemoteFile`).
`blobs`: URL -> the key of the blob with the bytes, for each file that was downloaded.
`hub_names`: URL -> the path in the folder of the Hugging Face hub's LoRAs, for each LoRA that was downloaded there;
    null if no file was.
`num_bytes`: the size of all these blobs together.
"""

previews = sa.Table(
    "previews",
    metadata,
    sa.Column("request_id", sa.String(64), sa.ForeignKey("requests.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("asked", sa.Integer, nullable=False),
    sa.Column("attempt", sa.Integer),
    sa.Column("picture", sa.LargeBinary),
    sa.Column("step", sa.Integer),
    sa.Column("steps", sa.Integer),
    sa.Column("window", sa.Integer),
    sa.Column("windows", sa.Integer),
)
"""The previews of requests that have not ended: one row for each request for which somebody has asked for previews.

`asked`: how often clients have asked for a preview. While it grows, the worker makes new ones.
`attempt`: the attempt at the request that has made the newest preview. It and the columns after it are null before the
    first preview.
The other columns are explained at `queue.previews.StoredPreview`.
"""

deleted_requests = sa.Table(
    "deleted_requests",
    metadata,
    sa.Column("endpoint", sa.String(200), primary_key=True),
    sa.Column("state", sa.String(20), primary_key=True),
    sa.Column("status_code", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("count", Integer, nullable=False),
)
"""The number of requests whose rows were deleted because they were old, by endpoint, last state and HTTP status.

With them the metrics still count all requests that have ever ended.
"""

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
"""The log lines of all requests. The columns are explained at `queue.requests.StoredLogLine`."""

servers = sa.Table(
    "servers",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("boot", sa.String(64), nullable=False),
    sa.Column("born", Integer, nullable=False),
    sa.Column("beats", Integer, nullable=False),
    sa.Column("beat_at", sa.Double, nullable=False),
)
"""The server processes that carry out requests: one row for each lease (see `worker.leases`).

`host`, `pid`: the host name and the process id.
`boot`: an id of the machine's boot and of the process's PID namespace; empty if the system has none.
`born`: the process's start time in clock ticks since the boot, because process ids are reused; 0 if it is unknown.
`beats`: the number of heartbeats. It grows while the server is alive.
`beat_at`: the time of the last heartbeat, for information only.
"""

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
"""The API keys.

`secret_hash` is the SHA-256 of the secret in hex. The other columns are explained at `access.keys.Key`.
"""

files = sa.Table(
    "files",
    metadata,
    sa.Column("key", sa.String(200), primary_key=True),
    sa.Column("blob", sa.String(200), nullable=False),
    sa.Column("key_id", sa.String(64), nullable=False),
    sa.Column("request_id", sa.String(64)),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("content_type", sa.String(200), nullable=False),
    sa.Column("size", Integer, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double),
    sa.Column("access", sa.JSON(none_as_null=True)),
    sa.Index("files_expiring", "expires_at"),
    sa.Index("files_of_request", "request_id"),
    sa.Index("files_created", "created_at"),
)
"""The files of the store: finished uploads, and results of requests.

`key_id`: the id of its owner's API key.
`request_id`: the id of the request whose result it is; null for an upload.
`expires_at`: the time at which it expires; null for never.
The other columns are explained at `storage.files.StoredFile`.
"""

derived_files = sa.Table(
    "derived_files",
    metadata,
    sa.Column("file_key", sa.String(200), sa.ForeignKey("files.key", ondelete="CASCADE"), primary_key=True),
    sa.Column("kind", sa.String(20), primary_key=True),
    sa.Column("form", sa.String(40), primary_key=True),
    sa.Column("made_at", sa.Double, nullable=False),
    sa.Column("facts", Json, nullable=False),
    sa.Column("blob", sa.String(200)),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("blob", name="one_derived_file_per_blob"),
)
"""The files that were made from stored ones for the server's pages, such as a strip of a video's frames.

`file_key`: the key of the stored file.
`kind`, `form`: the kind of derived file, such as "strip", and the variant of this kind, such as its size.
`made_at`: the time at which it was made.
`facts`: a JSON object of facts, such as the number of frames in the strip.
`blob`: the key of the blob with its bytes; null if this kind consists of facts alone, such as those about a video.
`size`: the size of the blob in bytes; 0 without one.
"""

imports = sa.Table(
    "imports",
    metadata,
    sa.Column("key_id", sa.String(64), primary_key=True),
    sa.Column("url_hash", sa.String(64), primary_key=True),
    sa.Column("file_key", sa.String(200), sa.ForeignKey("files.key", ondelete="CASCADE"), nullable=False),
    sa.Column("imported_at", sa.Double, nullable=False),
    sa.Index("imports_of_file", "file_key"),
)
"""The files that the server fetched from URLs of other hosts and stored as uploads (see `storage.imports`).

`key_id`: the id of the API key for which the file was fetched.
`url_hash`: the SHA-256 of the URL in hex, because the URL may be a secret.
`file_key`: the key of the stored file.
`imported_at`: when it was stored.
"""

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
    sa.Index("uploads_expiring", "expires_at"),
)
"""The uploads that have not expired. The columns are explained at `storage.uploads.Upload`."""

upload_parts = sa.Table(
    "upload_parts",
    metadata,
    sa.Column("token", sa.String(100), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("etag", sa.String(32), primary_key=True),
    sa.Column("key_id", sa.String(64), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Index("upload_parts_of_key", "key_id"),
)
"""The parts of unfinished uploads: the upload's token, the id of its API key, the part's number, the MD5 of its bytes
in hex, and its size in bytes. A row is inserted before its blob is stored."""

secrets = sa.Table(
    "secrets",
    metadata,
    sa.Column("name", sa.String(100), primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
)
"""Secrets that all servers of the database share: random bytes by name (see `database.secret`)."""

deliveries = sa.Table(
    "webhook_deliveries",
    metadata,
    sa.Column("request_id", sa.String(64), sa.ForeignKey("requests.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("key_id", sa.String(64), nullable=False, server_default=sa.text("''")),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("host", sa.String(255), nullable=False, server_default=sa.text("''")),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_at", sa.Double, nullable=False),
    sa.Column("give_up_at", sa.Double, nullable=False),
    sa.Column("last_error", sa.Text),
    sa.Index("deliveries_due", "state", "next_at"),
)
"""The webhooks. The transaction that ends a request inserts its row.

`key_id`: the id of the API key that submitted the request.
`host`: the host name in the URL.
`state`: waiting, delivered or given_up.
`attempts`: the number of attempts so far, including one in progress.
`next_at`: the time at which the next attempt is due; meaningless unless `state` is waiting.
`give_up_at`: the time after which no further attempt begins.
`last_error`: the reason why the last attempt failed; null if none has failed or the webhook is delivered.
"""
