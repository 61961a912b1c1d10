"""Fixtures of the contract tests: server processes, and fal's packages for JavaScript."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from longtake.service.client_env import SHIM
from longtake.service.tls import Tls, tls_files

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

CLIENT_VARIABLES = ("FAL_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT", "NODE_", "PYTHONPATH")


@dataclass(frozen=True)
class Running:
    """The URLs of a running server and its data folder."""

    http: str
    https: str
    tunnel: str
    data_dir: Path

    @property
    def tls(self) -> Tls:
        return tls_files(self.data_dir / "tls")

    def file(self, url: str) -> Path:
        """Returns the path of the stored file of a URL."""
        (path,) = (self.data_dir / "files").glob(f"*-{url.rpartition('/')[2]}")
        return path

    def environment(self, **more: str) -> dict[str, str]:
        """Returns the environment for a program: this machine's without the clients' variables, and `more`."""
        inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith(CLIENT_VARIABLES)}
        return {**inherited, "FAL_KEY": "any:thing", **more}

    def node_shim(self) -> dict[str, str]:
        module = (SHIM / "fal_local.mjs").as_uri()
        return self.environment(NODE_OPTIONS=f"--import={module}", FAL_LOCAL_URL=self.http)


@contextmanager
def started(command: Sequence[str], data_dir: Path, env: Mapping[str, str] | None = None) -> Iterator[Running]:
    """Runs a server process that prints its ports as one line of JSON."""
    with (data_dir.parent / f"{data_dir.name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, cwd=ROOT, env=env)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, Path(log.name).read_text()[-3000:]
        ports = json.loads(line)
        host = "127.0.0.1"
        yield Running(
            f"http://{host}:{ports['port']}",
            f"https://{host}:{ports['tls_port']}",
            f"http://{host}:{ports['tunnel_port']}",
            data_dir,
        )
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server without keys."""
    folder = tmp_path_factory.mktemp("contract") / "data"
    with started([sys.executable, "-m", "tests.contract.server", str(folder)], folder) as running:
        yield running


@pytest.fixture(scope="package")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, str]]:
    """A server that has keys, and one of its keys. It has one slot: each worker process takes a second to start."""
    from longtake.access.keys import Keys
    from longtake.database.connection import connect, file_url
    from longtake.database.migrate import migrate

    folder = tmp_path_factory.mktemp("locked") / "data"
    folder.mkdir()
    engine = connect(file_url(folder / "longtake.db"))
    migrate(engine)
    key = Keys(engine).create("tests", "run")
    engine.dispose()
    one_slot = json.dumps({"slots": ["cpu"], "pools": {}})
    with started([sys.executable, "-m", "tests.contract.server", str(folder), one_slot], folder) as running:
        yield running, key


@pytest.fixture(scope="package")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 105 MB, of which no two parts are equal."""
    path = tmp_path_factory.mktemp("large") / "large.mp4"
    block = os.urandom(1024 * 1024)
    with path.open("wb") as file:
        for number in range(105_000_000 // len(block) + 1):
            file.write(number.to_bytes(4, "big") + block)
        file.truncate(105_000_000)
    return path


class Node:
    """A folder with fal's packages for JavaScript, and processes of Node that call them, one for each environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._callers: dict[frozenset[tuple[str, str]], subprocess.Popen[str]] = {}
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115

    def call(self, function: str, env: Mapping[str, str], given: Mapping[str, Any], timeout: float = 180) -> Any:
        """Returns the result of a function of calls.mjs. Its process is killed after `timeout` seconds."""
        process = self._caller(env)
        assert process.stdin is not None
        assert process.stdout is not None
        deadline = threading.Timer(timeout, process.kill)
        deadline.start()
        process.stdin.write(json.dumps([function, given]) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        deadline.cancel()
        if not line:
            self._errors.seek(0)
            raise AssertionError(f"{function} ended the process: {self._errors.read()[-3000:]}")
        return json.loads(line)

    def run(self, script: str, env: Mapping[str, str], *words: str, timeout: float = 180) -> str:
        done = subprocess.run(
            ["node", script, *words], cwd=self.folder, env=dict(env), capture_output=True, text=True, timeout=timeout
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def close(self) -> None:
        for process in self._callers.values():
            process.kill()
            process.communicate()
        self._errors.close()

    def _caller(self, env: Mapping[str, str]) -> "subprocess.Popen[str]":
        """Returns the running process with this environment."""
        key = frozenset(env.items())
        if key not in self._callers or self._callers[key].poll() is not None:
            self._callers[key] = subprocess.Popen(
                ["node", "calls.mjs"],
                cwd=self.folder,
                env=dict(env),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
            )
        return self._callers[key]


@pytest.fixture(scope="package")
def node(pytestconfig: pytest.Config) -> Iterator[Node]:
    """fal's packages for JavaScript, installed once in pytest's cache folder."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not on this machine, so the JavaScript client cannot be run")
    lock = (HERE / "js" / "package-lock.json").read_bytes()
    assert pytestconfig.cache is not None
    folder = pytestconfig.cache.mkdir(f"contract-js-{hashlib.sha256(lock).hexdigest()[:12]}")
    for path in (HERE / "js").iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    if not (folder / "installed").exists():
        done = subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=300,
        )
        if done.returncode != 0:
            reason = done.stderr.strip().splitlines()[-1:] or ["it failed"]
            pytest.skip(f"npm cannot install fal's JavaScript packages here: {reason[0][:200]}")
        (folder / "installed").touch()
    node = Node(folder)
    yield node
    node.close()
