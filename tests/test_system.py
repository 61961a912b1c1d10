"""No module but two uses what Windows does not have, and requests run without it.

Which names Windows lacks is read from the standard library's type stubs that come with mypy.
"""

import ast
import base64
import json
import os
import signal
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import mypy
import pytest

import longtake
from longtake import system
from tests.media.clips import Clip

ROOT = Path(longtake.__file__).parent
STUBS = Path(mypy.__file__).parent / "typeshed" / "stdlib"
MODULES = {"uvloop", "select", "selectors"}
"""Modules that Windows lacks, or that wait there for sockets only."""

FOR_SOCKETS = {"network_streams.py": {"selectors"}}
"""Modules of the project that use one of those for sockets only, which works on Windows too."""

METHODS = {"add_signal_handler", "remove_signal_handler", "connect_read_pipe", "connect_write_pipe"}
"""Methods of an event loop that Windows lacks."""

KEYWORDS = {"process_group", "start_new_session", "preexec_fn", "pass_fds", "umask"}
"""Arguments of `subprocess.Popen` that have no meaning on Windows."""

FOLDERS = ("/proc/", "/dev/", "/sys/", "/tmp/", "/etc/", "/var/")


def names(body: list[ast.stmt], platform: str) -> Iterator[str]:
    """Yields the names that a stub defines on a platform."""
    for node in body:
        match node:
            case ast.If():
                try:
                    holds = eval(ast.unparse(node.test), {"sys": FakeSys(platform)})
                except Exception:
                    holds = True
                yield from names(node.body if holds else node.orelse, platform)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                yield name


class FakeSys:
    def __init__(self, platform: str) -> None:
        self.platform = platform
        self.version_info = sys.version_info


@cache
def lacking(module: str) -> frozenset[str]:
    """The names of a module of the standard library that exist on Linux or macOS, but not on Windows."""
    file = next((f for f in (STUBS / f"{module}.pyi", STUBS / module / "__init__.pyi") if f.exists()), None)
    if file is None:
        return frozenset()
    body = ast.parse(file.read_text(encoding="utf-8")).body
    posix = {*names(body, "linux"), *names(body, "darwin")}
    return frozenset(posix - set(names(body, "win32")))


@cache
def is_missing(module: str) -> bool:
    """True for a module of the standard library of which Windows has no public name, such as `fcntl`."""
    file = STUBS / f"{module}.pyi"
    if not file.exists():
        return False
    body = ast.parse(file.read_text(encoding="utf-8")).body
    return any(names(body, "linux")) and not any(names(body, "win32"))


def posix_only(source: str) -> set[str]:
    """The names in a module's source that Windows does not have."""
    tree, found = ast.parse(source), set()
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=aliases):
                modules |= {alias.asname or alias.name: alias.name for alias in aliases}
                found |= {alias.name for alias in aliases if alias.name in MODULES or is_missing(alias.name)}
            case ast.ImportFrom(module=str(name), names=aliases):
                found |= {alias.name for alias in aliases if alias.name in lacking(name)}
                found |= {name} if name in MODULES or is_missing(name) else set()
            case ast.Constant(value=str(text)) if text.startswith(FOLDERS):
                found.add(text)
            case ast.keyword(arg=str(name)) if name in KEYWORDS:
                found.add(name)
            case ast.Attribute(attr=name) if name in METHODS:
                found.add(name)
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=owner), attr=name):
                module = modules.get(owner, "")
                if name in lacking(module) or (module, name) in (("os", "name"), ("sys", "platform")):
                    found.add(f"{module}.{name}")
    return found


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import os\nos.killpg(1, 9)", "os.killpg"),
        ("import os\nos.statvfs('x')", "os.statvfs"),
        ("import signal\nsignal.SIGKILL", "signal.SIGKILL"),
        ("from os import getuid", "getuid"),
        ("def f():\n    import fcntl", "fcntl"),
        ("import resource", "resource"),
        ("import pwd", "pwd"),
        ("import selectors", "selectors"),
        ("import uvloop", "uvloop"),
        ("loop.add_signal_handler(1, f)", "add_signal_handler"),
        ("subprocess.Popen(a, process_group=0)", "process_group"),
        ("import socket\nsocket.AF_UNIX", "socket.AF_UNIX"),
        ("open('/proc/meminfo')", "/proc/meminfo"),
        ("import sys\nif sys.platform == 'linux': ...", "sys.platform"),
    ],
)
def test_the_scan_finds_names_of_one_system(source: str, name: str) -> None:
    assert posix_only(source) == {name}


def test_the_scan_lets_portable_names_pass() -> None:
    assert posix_only("import os, signal, json\nos.dup2(1, 2)\nos.replace('a', 'b')\nsignal.SIGTERM") == set()


def test_only_two_modules_use_what_windows_lacks() -> None:
    paths = {path.relative_to(ROOT).as_posix(): path for path in ROOT.rglob("*.py")}
    found = {
        name: only
        for name, path in paths.items()
        if (only := posix_only(path.read_text(encoding="utf-8")) - FOR_SOCKETS.get(name, set()))
    }
    assert set(found) == {"system.py", "host_memory.py"}, found


def test_the_name_of_a_forced_end() -> None:
    assert system.end_name(-signal.SIGSEGV) == "SIGSEGV"
    assert system.end_name(-99) == "signal 99"
    assert system.end_name(0xC0000005) == "error 0xC0000005"
    assert system.end_name(7) is None


LIKE_WINDOWS = textwrap.dedent(
    """
    #!{python}
    import asyncio, builtins, os, selectors, signal, stat, sys

    for name in ("killpg", "getpgid", "setpgid", "setpgrp", "statvfs", "nice"):
        delattr(os, name)
    for name in ("SIGXCPU", "SIGHUP", "SIGUSR1"):
        delattr(signal, name)
    real_import = builtins.__import__

    def asked_by_longtake(scope):
        return str((scope or {{}}).get("__name__")).startswith("longtake")

    def refuse(name, globals=None, locals=None, fromlist=(), level=0):
        if name in ("resource", "fcntl", "uvloop", "pwd") and asked_by_longtake(globals):
            raise ImportError(name)
        return real_import(name, globals, locals, fromlist, level)

    builtins.__import__ = refuse

    def no_handlers(*_):
        raise NotImplementedError  # as the event loops of Windows do

    asyncio.AbstractEventLoop.add_signal_handler = no_handlers
    asyncio.SelectorEventLoop.add_signal_handler = no_handlers
    register = selectors.EpollSelector.register

    def sockets_only(self, file, *rest):
        number = file if isinstance(file, int) else file.fileno()
        if not stat.S_ISSOCK(os.fstat(number).st_mode):
            raise OSError("select works for sockets only")
        return register(self, file, *rest)

    selectors.EpollSelector.register = sockets_only
    import subprocess

    start = subprocess.Popen.__init__

    def like_windows(self, *args, **keywords):
        keywords.pop("start_new_session", None)
        start(self, *args, **keywords)

    subprocess.Popen.__init__ = like_windows
    sys.executable = __file__
    import runpy
    import types

    import longtake.system

    longtake.system.sys = types.SimpleNamespace(platform="win32")

    arguments = [a for a in sys.argv[1:] if a != "-P"]
    assert arguments[0] == "-m", arguments
    module, sys.argv = arguments[1], arguments[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    """
).lstrip()
"""A Python program `-m MODULE ARGUMENTS` that runs a module without what Windows lacks, as do its child processes."""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("like_windows") / "python"
    program.write_text(LIKE_WINDOWS.format(python=sys.executable), encoding="utf-8")
    program.chmod(0o755)
    return program


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return os.environ | {
        "LONGTAKE_DATA_DIR": str(tmp_path / "data"),
        "LONGTAKE_PRELOAD": "0.9.8",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT.parent),
    }


def test_a_video_is_read_without_what_windows_lacks(python: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    clip = Clip("clip.mp4", frames=24).write(tmp_path)
    command = [str(python), "-m", "longtake", "plan", str(clip), "--prompt", "x", "--json"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["shown_frames"] == 24


def test_a_server_answers_a_request_without_what_windows_lacks(
    python: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    clip = Clip("clip.mp4", frames=24).write(tmp_path)
    command = [str(python), "-m", "longtake", "serve", "--port", "0"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            address = next(line.split()[-1] for line in server.stderr if "longtake serves http" in line)
            url = f"{address}/run/fal-ai/ltxv-13b-098-distilled/extend"
            uri = "data:video/mp4;base64," + base64.b64encode(clip.read_bytes()).decode()
            small = {"num_frames": 17, "resolution": "480p", "aspect_ratio": "1:1", "first_pass_num_inference_steps": 2}
            body = {"prompt": "x", "video": {"video_url": uri}, **small}
            request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
            answer = json.load(urllib.request.urlopen(request, timeout=120))
            assert answer["video"]["url"].startswith(address)
            server.send_signal(signal.SIGTERM)
            server.stderr.read()
            assert server.wait(timeout=60) == 0
        finally:
            server.kill()
