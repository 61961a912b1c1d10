"""Keys from the command line, in the database that the server uses."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from longtake.access.keys import Caller, Keys
from longtake.cli import app
from longtake.database.migrate import open_database
from longtake.settings import Settings


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LONGTAKE_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def run(*args: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["keys", *args])
    return done.exit_code, done.stdout, done.stderr


def test_a_key_that_is_made_opens_the_server(data: Path) -> None:
    status, out, err = run("create", "--alias", "laptop", "--max-in-flight", "2")
    assert status == 0
    key = out.strip()
    keys = Keys(open_database(Settings(data_dir=data)))
    assert keys.verify(key) == Caller(key.partition(":")[0], "run", 2)
    assert "cannot be shown again" in err


def test_only_making_it_shows_the_secret() -> None:
    made = json.loads(run("create", "--alias", "boss", "--scope", "admin", "--json")[1])
    assert (made["alias"], made["scope"], made["max_in_flight"]) == ("boss", "admin", None)
    secret = made["key"].partition(":")[2]
    for args in (("list",), ("list", "--json"), ("revoke", made["id"]), ("list",)):
        status, out, err = run(*args)
        assert status == 0
        assert secret not in out + err


def test_list_and_revoke() -> None:
    assert "everybody is let in" in run("list")[1]
    first = json.loads(run("create", "--alias", "first", "--json")[1])
    second = json.loads(run("create", "--alias", "second", "--json")[1])
    assert json.loads(run("revoke", first["id"], "--json")[1]) == {"id": first["id"], "revoked": True}
    listed = json.loads(run("list", "--json")[1])
    assert [(key["id"], key["revoked_at"] is None) for key in listed] == [(first["id"], False), (second["id"], True)]
    shown = run("list")[1]
    assert "first: run, made" in shown
    assert "revoked" in shown
    status, _, err = run("revoke", first["id"])
    assert status == 2
    assert first["id"] in err


def test_a_whole_key_can_be_revoked_and_its_secret_is_not_repeated() -> None:
    key = run("create", "--alias", "leaked")[1].strip()
    assert run("revoke", key)[0] == 0
    status, _, err = run("revoke", key)
    assert status == 2
    assert key.partition(":")[2] not in err


@pytest.mark.parametrize("args", [("create",), ("create", "--alias", ""), ("create", "--alias", "a", "--scope", "all"),
                                  ("create", "--alias", "a", "--max-in-flight", "0"), ("revoke",)])  # fmt: skip
def test_what_cannot_be_made(args: tuple[str, ...]) -> None:
    assert run(*args)[0] == 2


@pytest.mark.parametrize(
    "command", [["keys", "list"], ["keys", "create", "--alias", "b"], ["serve", "--slots", "none"]]
)
def test_a_damaged_table_of_keys_is_one_sentence(data: Path, command: list[str]) -> None:
    run("create", "--alias", "a")
    with closing(sqlite3.connect(data / "longtake.db")) as database:
        database.execute("DROP TABLE api_keys")
    ended = CliRunner().invoke(app, command)
    assert ended.exit_code == 2
    remedy = "Restore it from a backup, or move it away to begin with an empty one."
    assert ended.stderr.endswith(f"cannot be used: no such table: api_keys. {remedy}\n")
    assert "SELECT" not in ended.stderr


def test_webhook_keys_are_rotated(data: Path) -> None:
    status, out, _ = run("rotate-webhooks", "--json")
    assert status == 0
    assert len(json.loads(out)["keys"]) == 2
    assert "signs webhooks from" in run("rotate-webhooks")[1]
    assert len(list((data / "webhook_keys").iterdir())) in (2, 3)


def test_help_needs_no_database_library() -> None:
    script = (
        "import sys; from longtake.cli import app\n"
        "try: app(['keys', '--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('sqlalchemy', 'cryptography', 'torch', 'av') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


def test_every_command_takes_a_data_folder() -> None:
    def commands(group: Any) -> Iterator[Any]:
        for command in group.commands.values():
            yield from commands(command) if hasattr(command, "commands") else [command]

    found = list(commands(typer.main.get_command(app)))
    assert {"extend", "plan", "doctor", "serve", "client-env", "pull", "create"} <= {command.name for command in found}
    for command in found:
        options = command.get_params(command.make_context(command.name, [], resilient_parsing=True))
        assert "--data-dir" in [name for option in options for name in option.opts], command.name


def test_the_data_folder_of_the_option_is_used(data: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    key_id = json.loads(run("create", "--alias", "a", "--json", "--data-dir", str(other))[1])["id"]
    run("rotate-webhooks", "--data-dir", str(other))
    assert not data.exists()
    assert {"longtake.db", "webhook_keys"} <= {path.name for path in other.iterdir()}
    assert key_id in run("list", "--data-dir", str(other))[1]
    assert run("revoke", key_id, "--data-dir", str(other))[0] == 0
    assert json.loads(run("list", "--json")[1]) == []


@pytest.mark.parametrize("command", [["keys", "list"], ["keys", "rotate-webhooks"], ["serve", "--slots", "none"]])
def test_a_data_folder_that_cannot_be_created_is_named_with_its_option(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = CliRunner().invoke(app, [*command, "--data-dir", str(tmp_path / "file")])
    reason = (
        "cannot be created: there is already a file or folder of that name. "
        "Name another one with --data-dir or LONGTAKE_DATA_DIR."
    )
    assert (ended.exit_code, ended.stderr) == (2, f"Error: The folder {tmp_path / 'file'} {reason}\n")


def test_a_data_folder_without_a_name_is_refused() -> None:
    status, _, err = run("list", "--data-dir", "")
    assert status == 2
    assert "Invalid value for '--data-dir': The name is empty; it must name a folder." in err
