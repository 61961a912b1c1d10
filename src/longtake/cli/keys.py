"""The commands for API keys (create, list, revoke) and for the keys that sign webhooks (rotate-webhooks)."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from longtake.cli.console import DataDirOption, DebugOption, JsonOption, print_json, print_rows, reporting
from longtake.errors import InvalidRequest

if TYPE_CHECKING:
    from longtake.access.keys import Key, Keys

app = typer.Typer(name="keys", help="The API keys of the server on this machine.", no_args_is_help=True)


@app.command("create")
def create(
    alias: Annotated[str, typer.Option("--alias", help="A name to know the key by.")],
    scope: Annotated[
        Literal["run", "admin"], typer.Option("--scope", help="run: its own requests. admin: everything.")
    ] = "run",
    max_in_flight: Annotated[
        int | None,
        typer.Option("--max-in-flight", min=1, help="How many of its requests may wait or run at a time."),
    ] = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Create a key and print it. It cannot be printed again later. As soon as a key exists, the server refuses callers
    without a key."""
    with reporting(as_json=json, debug=debug), open_keys() as keys:
        key = keys.create(alias, scope, max_in_flight)
        if json:
            made = {"id": key.partition(":")[0], "key": key, "alias": alias, "scope": scope}
            print_json(made | {"max_in_flight": max_in_flight})
        else:
            typer.echo(key)
            typer.echo("Keep it: it cannot be shown again. Programs of fal's clients read it from FAL_KEY.", err=True)


@app.command("list")
def list_keys(data_dir: DataDirOption = None, json: JsonOption = False, debug: DebugOption = False) -> None:
    """List all keys, without their secrets."""
    with reporting(as_json=json, debug=debug), open_keys() as keys:
        found = keys.list()
        if json:
            print_json([vars(key) for key in found])
        else:
            print_rows("Keys", [(key.id, _text(key)) for key in found] or [("none", "everybody is let in")])


@app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The part of the key before the colon.")],
    data_dir: DataDirOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Revoke a key. Running servers may accept it for up to 6 more seconds."""
    with reporting(as_json=json, debug=debug), open_keys() as keys:
        if not keys.revoke(key_id.partition(":")[0]):
            raise InvalidRequest(
                f"There is no key {key_id.partition(':')[0]!r} that still works; `longtake keys list` shows them."
            )
        if json:
            print_json({"id": key_id.partition(":")[0], "revoked": True})
        else:
            typer.echo("The key is revoked.")


@app.command("rotate-webhooks")
def rotate_webhooks(data_dir: DataDirOption = None, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Create a new key that signs webhooks. It is published at once and used a day later, because receivers may cache
    the published keys for a day. Older keys stay published."""
    with reporting(as_json=json, debug=debug):
        from longtake.access.signing import Signer
        from longtake.private import prepare_data_folder
        from longtake.settings import settings

        configured = settings()
        prepare_data_folder(configured)
        signer = Signer(configured.data_dir)
        signs_from = signer.rotate()
        if json:
            print_json({"signs_from": signs_from, "keys": signer.jwks()["keys"]})
        else:
            typer.echo(f"The new key signs webhooks from {_date(signs_from)} on.")


@contextmanager
def open_keys() -> "Iterator[Keys]":
    """Yields the API keys in the database that the settings name. The database is closed after the block."""
    from longtake.access.keys import Keys
    from longtake.database.migrate import database_errors, open_database
    from longtake.settings import settings

    engine = open_database(settings())
    try:
        with database_errors(engine):
            yield Keys(engine)
    finally:
        engine.dispose()


def _text(key: "Key") -> str:
    most = "" if key.max_in_flight is None else f", at most {key.max_in_flight} in flight"
    end = "" if key.revoked_at is None else f", revoked {_date(key.revoked_at)}"
    return f"{key.alias}: {key.scope}{most}, made {_date(key.created_at)}{end}"


def _date(seconds: float) -> str:
    """Returns a Unix time in seconds as date and time in the local time zone."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
