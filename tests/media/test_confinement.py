"""The walls around a decode process that a hostile file has taken over, for root and for a user, with and without
Landlock."""

import errno
import json
import os
import re
import socket
import struct
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import longtake
from longtake import system
from longtake.media import confinement
from longtake.media.limits import Limits
from longtake.media.sandbox import DecodeProcess
from tests.media.takeover import ROOT

USER = 54321
"""The id of a user that owns nothing on this machine."""

NOBODY = 65534

PROGRAM = """
import ctypes, json, os, struct, sys
from pathlib import Path
from longtake.media import confinement
from tests.media.takeover import taken_over

folder, port, landlock = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
if not landlock:
    # A filter under which the system calls of Landlock fail with ENOSYS, as in a kernel without it.
    steps = [(0x20, 0, 0, 0), (0x15, 0, 1, 444), (0x06, 0, 0, 0x0005_0026), (0x06, 0, 0, 0x7FFF_0000)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    head = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(program)))
    ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
    assert ctypes.CDLL(None).prctl(22, 2, head) == 0
with taken_over(folder / "video") as process:
    found, _ = process.call({"do": "try_all", "folder": str(folder), "port": port})
    state = Path(f"/proc/{process.pid}/status").read_text()
print(json.dumps({"landlock": confinement.support().landlock, "found": found, "state": state}))
"""


@pytest.fixture
def target() -> Iterator[tuple[Path, int]]:
    """A folder to which all users have access, and a port on which this process listens."""
    with (
        tempfile.TemporaryDirectory(prefix="longtake-test-") as name,
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket(socket.AF_UNIX) as local,
    ):
        folder = Path(name)
        folder.chmod(0o777)
        (folder / "video").write_bytes(bytes(100))
        (folder / "victim").write_text("mine")
        local.bind(str(folder / "socket"))
        local.listen()
        for file in folder.iterdir():
            file.chmod(0o666)
        yield folder, listener.getsockname()[1]


def run_as(user: int, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a Python program as a user, in a Python that this user may start; skips the test if there is none."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    places = [str(ROOT), str(Path(longtake.__file__).parents[1]), sysconfig.get_path("purelib")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(places)}
    for python in (sys.executable, f"/usr/bin/{name}", f"/usr/local/bin/{name}"):
        try:
            ended = subprocess.run(
                [python, "-c", program, *arguments],
                user=user,
                group=user,
                extra_groups=[],
                env=environment,
                cwd="/",
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError:
            continue
        if "ModuleNotFoundError" not in ended.stderr:
            return ended
    pytest.skip(f"user {user} can start no {name} with longtake on this machine")


@pytest.mark.skipif(not confinement.support().seccomp, reason="this system cannot refuse system calls")
@pytest.mark.parametrize("landlock", [True, False])
@pytest.mark.parametrize("user", [0, USER])
def test_a_decoder_that_was_taken_over_cannot_get_out(user: int, landlock: bool, target: tuple[Path, int]) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    folder, port = target
    ended = run_as(user, PROGRAM, str(folder), str(port), json.dumps(landlock))
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert landlock or report["landlock"] == 0
    found = report["found"]
    assert int(found.pop("user")) == (user or NOBODY)
    assert len(found) > 400
    unknown = repr(OSError(errno.ENOSYS, "syscall"))
    assert found.pop("system call 435") == f"YES {unknown}", "so that libraries start threads by `clone`"
    assert {name: answer for name, answer in found.items() if answer != "no"} == {}
    assert (folder / "victim").read_text() == "mine"
    assert sorted(path.name for path in folder.iterdir()) == ["socket", "victim", "video"]
    state = dict(re.findall(r"^(\w+):\t(.*)$", report["state"], re.MULTILINE))
    assert state["Seccomp"] == "2"
    assert state["NoNewPrivs"] == "1"
    assert {state[kind].strip("0") for kind in ("CapPrm", "CapEff", "CapAmb")} == {""}
    assert state["Uid"].split() == state["Gid"].split() == [str(user or NOBODY)] * 4


@pytest.mark.parametrize("program", ["longtake.media.decode_server", "longtake.media.still"])
def test_the_walls_stand_around_each_program_before_it_reads_the_file(program: str, tmp_path: Path) -> None:
    if not confinement.support().seccomp:
        pytest.skip("this system cannot refuse system calls")
    (tmp_path / "file").write_bytes(bytes(100))
    with closing(DecodeProcess(program, tmp_path / "file", {"container": "mp4"}, Limits())) as process:
        state, deadline = Path(f"/proc/{process.pid}/status"), time.monotonic() + 60
        while "Seccomp:\t2" not in state.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert "Threads:\t1\n" in state.read_text(), "Landlock binds only the thread that raises it"


OPENERS = re.compile(
    r"\bav\.open\(|\bImage\.open\(|\bWebPImageFile\(|\bcv2\.(imread|imdecode|VideoCapture)|\b(imageio|soundfile|torchaudio)\."
    r"|\bcreate_decoder\(|\bpickle\.load|\btorch\.load\("
)
"""Calls that parse a file of a media format, or run code in it."""

WRITERS = {"media/movie.py", "media/gif.py"}
"""Modules that open their own new files with PyAV, to write them."""


def test_only_confined_programs_parse_media() -> None:
    """Every other way over strangers' bytes, such as sheets, strips and previews, goes through these modules."""
    source = Path(longtake.__file__).parent
    names = {path.relative_to(source).as_posix() for path in source.rglob("*.py") if OPENERS.search(path.read_text())}
    assert names - WRITERS == {"media/probe.py", "media/still.py", "media/webp.py"}
    imports = re.compile(
        r"^from longtake\.media\.(probe|webp) import|^from longtake\.media import .*\b(probe|webp)\b", re.MULTILINE
    )
    users = {path.relative_to(source).as_posix() for path in source.rglob("*.py") if imports.search(path.read_text())}
    readers = {f"media/{name}.py" for name in ("decode_server", "frame_reader", "probe", "readable", "sound_reader")}
    # The runner reads the result that it has just written itself.
    assert users == readers | {"runner.py"}, "the program of the decode process, and what it reads with"


LANDLOCK_ALONE = """
import json, os, socket, sys
from longtake import system
from longtake.media import confinement
system.linux_machine = lambda: "riscv64"
confinement.confine()
found = {}
ways = {
    "read": lambda: open(sys.argv[1], "rb"),
    "write": lambda: open(sys.argv[1], "r+b"),
    "delete": lambda: os.unlink(sys.argv[1]),
    "connect": lambda: socket.create_connection(("127.0.0.1", int(sys.argv[2]))),
    "signal": lambda: os.kill(os.getppid(), 0),
}
for name, way in ways.items():
    try:
        found[name] = str(way())
    except PermissionError:
        found[name] = "no"
print(json.dumps(found))
"""


def test_landlock_holds_alone_on_machines_whose_system_calls_are_unknown(target: tuple[Path, int]) -> None:
    version = confinement.support().landlock
    if version == 0:
        pytest.skip("this kernel has no Landlock")
    folder, port = target
    ended = run_as(os.geteuid(), LANDLOCK_ALONE, str(folder / "victim"), str(port))
    closed = [name for name, since in (("connect", 4), ("signal", 6)) if version >= since]
    found = json.loads(ended.stdout)
    assert {name: found[name] for name in ("read", "write", "delete", *closed)} == dict.fromkeys(
        ("read", "write", "delete", *closed), "no"
    )


FAILING_WALL = """
import ctypes, struct, sys
from longtake.media import confinement

# A filter under which one system call fails with E2BIG: any call of it, or those with a certain first argument.
number, argument = int(sys.argv[1]), int(sys.argv[2])
steps = [(0x20, 0, 0, 0), (0x15, 0, 3, number), (0x20, 0, 0, 16), (0x15, 0, argument >= 0, max(argument, 0))]
steps += [(0x06, 0, 0, 0x0005_0007), (0x06, 0, 0, 0x7FFF_0000)]
program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
head = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(program)))
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
assert ctypes.CDLL(None).prctl(22, 2, head) == 0
confinement.confine()
print("decodes")
"""


@pytest.mark.parametrize("wall", ["seccomp", "Landlock"])
def test_a_process_decodes_nothing_if_a_wall_of_the_kernel_cannot_be_raised(wall: str) -> None:
    machine, offered = system.linux_machine(), confinement.support()
    has_features = offered.seccomp and (wall == "seccomp" or offered.landlock > 0)
    if machine not in confinement.Numbers._fields or not has_features:
        pytest.skip(f"this system has no seccomp, or no {wall}")
    set_filter = (str(getattr(confinement.Numbers(x86_64=317, aarch64=277), machine)), "1")
    call = {"seccomp": set_filter, "Landlock": ("446", "-1")}[wall]
    ended = subprocess.run([sys.executable, "-c", FAILING_WALL, *call], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"The kernel has {wall}, but this process could not be confined by it")
    allowed = subprocess.run(
        [sys.executable, "-c", FAILING_WALL, "9999", "-1"], capture_output=True, text=True, check=False
    )
    assert (allowed.returncode, allowed.stdout) == (0, "decodes\n"), allowed.stderr


def headers() -> dict[str, dict[str, int]]:
    """The numbers of system calls in the headers of this system's C library, by machine type."""
    places = {
        "x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
        "aarch64": "/usr/include/asm-generic/unistd.h",
    }
    found = {}
    for machine, place in places.items():
        if Path(place).exists():
            pairs = re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)", Path(place).read_text(), re.MULTILINE)
            found[machine] = {name: int(number) for name, number in pairs}
    return found


@pytest.mark.parametrize("machine", confinement.Numbers._fields)
def test_the_numbers_of_system_calls_are_those_of_the_headers(machine: str) -> None:
    known = headers().get(machine)
    if known is None:
        pytest.skip(f"this system has no headers with the system calls of {machine}")
    for name, numbers in confinement.CALLS.items():
        assert getattr(numbers, machine) == known[name], name


def answer(program: bytes, architecture: int, number: int, argument: int = 0) -> int:
    """What a filter answers to a system call: a small interpreter for its program."""
    data = struct.pack("=IIQQ", number, architecture, 0, argument)
    steps = list(struct.iter_unpack("=HBBI", program))
    value = at = 0
    while True:
        code, skip_if_true, skip_if_false, operand = steps[at]
        at += 1
        match code:
            case 0x20:
                (value,) = struct.unpack_from("=I", data, operand)
            case 0x15:
                at += skip_if_true if value == operand else skip_if_false
            case 0x45:
                at += skip_if_true if value & operand else skip_if_false
            case 0x06:
                return int(operand)


ALLOWED, REFUSED, UNKNOWN, KILLED = 0x7FFF_0000, 0x0005_0001, 0x0005_0026, 0x8000_0000


@pytest.mark.parametrize(
    ("machine", "architecture", "clone", "openat"),
    [("x86_64", 0xC000_003E, 56, 257), ("aarch64", 0xC000_00B7, 220, 56)],
)
def test_the_filter_of_each_machine(machine: str, architecture: int, clone: int, openat: int) -> None:
    program = confinement.call_filter(machine)
    allowed = {number for number in range(600) if answer(program, architecture, number) == ALLOWED}
    assert allowed == {getattr(numbers, machine) for numbers in confinement.CALLS.values()}
    assert answer(program, architecture, openat) == REFUSED
    assert answer(program, architecture, clone, argument=0x003D_0F00) == ALLOWED, "as glibc starts a thread"
    assert answer(program, architecture, clone, argument=0x0120_0011) == REFUSED, "as glibc forks"
    assert answer(program, architecture, 435) == UNKNOWN
    assert answer(program, architecture, 0x4000_0000) == REFUSED, "x32's numbers"
    assert answer(program, 0x4000_0003, 11) == KILLED, "a call in the manner of i386"


def test_what_a_system_can_do_is_said() -> None:
    def said(seccomp: bool, landlock: int, stays_root: bool = False) -> str:
        return str(confinement.Support(seccomp, landlock, stays_root))

    assert "no files, network or programs (seccomp, Landlock 7)" in said(True, 7)
    assert "no files, network or programs (seccomp)" in said(True, 0)
    assert "(Landlock 3)" in said(False, 3)
    assert "accept only files that you trust" in said(False, 0)
    assert "stays root" not in said(True, 7)
    assert said(True, 7, stays_root=True).startswith(said(True, 7) + " It stays root, without root's capabilities")


CAP_KILL, CAP_SETUID = 5, 7

LEFT_OUT = """
import ctypes, json, struct, sys
from pathlib import Path
from longtake.media import confinement

# Gives up capabilities of root, as containers do: for programs that are started later, and for this process.
left_out = json.loads(sys.argv[4])
for capability in left_out:
    assert ctypes.CDLL(None).prctl(24, capability, 0, 0, 0) == 0
sets = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
kept = int(sets["CapPrm"], 16) & ~sum(1 << capability for capability in left_out)
low, high = kept & 0xFFFF_FFFF, kept >> 32
header, data = struct.pack("=Ii", 0x2008_0522, 0), struct.pack("=6I", low, low, 0, high, high, 0)
assert ctypes.CDLL(None).capset(header, data) == 0
print(confinement.support().stays_root)
"""


@pytest.mark.skipif(not confinement.support().seccomp, reason="this system cannot refuse system calls")
@pytest.mark.parametrize(
    ("left_out", "users"), [([CAP_KILL], [NOBODY, NOBODY, 0, NOBODY]), ([CAP_KILL, CAP_SETUID], [0, 0, 0, 0])]
)
def test_a_decoder_of_a_root_without_some_rights_cannot_get_out(
    left_out: list[int], users: list[int], target: tuple[Path, int]
) -> None:
    """And it ends when it is told to, although the parent may not end other users' processes."""
    if os.geteuid() != 0:
        pytest.skip("only root can give up some of root's rights")
    folder, port = target
    ended = run_as(0, LEFT_OUT + PROGRAM, str(folder), str(port), "true", json.dumps(left_out))
    assert ended.returncode == 0, ended.stderr
    stays_root, reported = ended.stdout.splitlines()
    assert stays_root == str(CAP_SETUID in left_out)
    report = json.loads(reported)
    state = dict(re.findall(r"^(\w+):\t(.*)$", report["state"], re.MULTILINE))
    assert [int(user) for user in state["Uid"].split()] == users, "real, effective, saved, of files"
    assert {int(group) for group in state["Gid"].split()} == {NOBODY}
    assert state["Groups"].strip() == ""
    assert {state[kind].strip("0") for kind in ("CapPrm", "CapEff", "CapAmb")} == {""}
    assert {name for name, answer in report["found"].items() if answer.startswith("YES")} == {"system call 435"}
