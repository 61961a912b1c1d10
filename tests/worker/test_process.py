import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

import pytest

from longtake import system
from longtake.system import start_ticks
from longtake.worker.messages import Cancel, Died, FromProcess, Planned, Printed, Ready, Run
from longtake.worker.process import WorkerProcess
from tests.no_threads import no_threads
from tests.worker.requests import PATIENCE_S, eventually

ECHO = """
import json, os, subprocess, sys, time
def plan(**facts): print(json.dumps({"type": "planned", "plan": facts}), flush=True)
for line in sys.stdin:
    message = json.loads(line)
    match message["type"], message.get("request_id"):
        case "run", _:
            plan(length=len(message["body"]))
        case _, "print":
            print("a library speaks", flush=True)
        case _, "spawn":
            plan(pid=subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"]).pid)
        case _, "silent":
            os.close(1); time.sleep(3600)
        case _, "exit":
            sys.exit(7)
"""
"""A process that answers a request with the length of its body. The ids of cancelled requests are commands to it."""

Mail = SimpleQueue[FromProcess]
MessageT = TypeVar("MessageT")


@pytest.fixture
def mail() -> Mail:
    return SimpleQueue()


def start(mail: Mail, code: str) -> WorkerProcess:
    return WorkerProcess([sys.executable, "-c", code], os.environ, lambda _, message: mail.put(message))


@pytest.fixture
def process(mail: Mail) -> Iterator[WorkerProcess]:
    process = start(mail, ECHO)
    yield process
    process.kill()
    assert process.has_ended(within_s=PATIENCE_S)


def receive(mail: Mail) -> FromProcess:
    return mail.get(timeout=PATIENCE_S)


def run_of(length: int) -> Run:
    return Run("r", "fal-ai/some/endpoint", "x" * length, None, Path("/nowhere"), "key")


def test_a_long_message_arrives_whole(process: WorkerProcess, mail: Mail) -> None:
    process.send(run_of(3_000_000))
    assert receive(mail) == Planned({"length": 3_000_000})


def test_sending_does_not_wait_for_a_process_that_does_not_read(mail: Mail) -> None:
    process = start(mail, "import time; time.sleep(3600)")
    for _ in range(10):
        process.send(run_of(1_000_000))
    process.kill()
    assert receive(mail) == Died("SIGKILL")


def test_a_printed_line_is_received_as_text(process: WorkerProcess, mail: Mail) -> None:
    process.send(Cancel("print"))
    assert receive(mail) == Printed("a library speaks")


def test_a_process_ends_when_its_input_is_closed(process: WorkerProcess, mail: Mail) -> None:
    process.close()
    assert receive(mail) == Died("exit status 0")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_death_by_a_signal_is_reported_by_its_name(process: WorkerProcess, mail: Mail, number: signal.Signals) -> None:
    os.kill(process.pid, number)
    assert receive(mail) == Died(number.name)


def test_the_exit_status_is_reported(process: WorkerProcess, mail: Mail) -> None:
    process.send(Cancel("exit"))
    assert receive(mail) == Died("exit status 7")


def test_a_process_that_closes_its_output_is_killed(process: WorkerProcess, mail: Mail) -> None:
    process.send(Cancel("silent"))
    assert receive(mail) == Died("SIGKILL")


def test_killing_a_process_kills_what_it_started(process: WorkerProcess, mail: Mail) -> None:
    process.send(Cancel("spawn"))
    message = receive(mail)
    assert isinstance(message, Planned)
    process.kill()
    assert isinstance(receive(mail), Died)
    eventually(lambda: start_ticks(message.plan["pid"]) is None)


def test_sending_to_a_dead_process_does_nothing(process: WorkerProcess, mail: Mail) -> None:
    process.kill()
    assert receive(mail) == Died("SIGKILL")
    process.send(Cancel("print"))
    process.kill()


def test_messages_are_received_in_order(mail: Mail) -> None:
    start(mail, """print('{"type": "ready"}'); print("a"); print("b")""")
    assert [receive(mail) for _ in range(4)] == [Ready(), Printed("a"), Printed("b"), Died("exit status 0")]


SERVER = """
import os, sys, time
from longtake.worker.process import WorkerProcess
def on_message(process, message): print(process.pid, flush=True)
WorkerProcess([sys.executable, "-c", sys.argv[1]], os.environ, on_message)
time.sleep(3600)
"""
"""A server with one worker process, whose id it prints at the process's first message."""

HELD = """
import re
from longtake.worker import main
from longtake.worker.messages import Ready
def serve(channel, settings):
    channel.send(Ready())
    re.match("(a+)+$", "a" * 100 + "b")
main.serve = serve
main.main()
"""
"""A worker process in which no other Python code runs after its first message: the match would take ages."""


@pytest.mark.skipif(system.linux_machine() is None, reason="only Linux ends a process together with its parent")
def test_a_worker_whose_interpreter_is_held_ends_with_its_server() -> None:
    with subprocess.Popen([sys.executable, "-c", SERVER, HELD], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        worker = int(server.stdout.readline())
        assert start_ticks(worker) is not None
        server.kill()
    try:
        eventually(lambda: start_ticks(worker) is None)
    finally:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)


@pytest.mark.parametrize("allowed", [0, 1, 2])
def test_a_process_without_its_threads_does_not_stay(
    mail: Mail, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, allowed: int
) -> None:
    begun: list[subprocess.Popen[bytes]] = []

    def kill(process: "subprocess.Popen[bytes]") -> None:
        begun.append(process)
        process.kill()

    monkeypatch.setattr(system, "kill", kill)
    with no_threads(monkeypatch, allowed=allowed), pytest.raises(BlockingIOError, match="no more threads"):
        start(mail, "input()")
    assert [process.returncode for process in begun] == [-signal.SIGKILL]
    assert mail.empty()


STOPPING = """
from longtake.worker import main
from longtake.worker.messages import Ready
def serve(channel, settings):
    channel.send(Ready())
    print(list(channel.runs()))
main.serve = serve
main.main()
"""
"""The worker process, with a loop that waits until its input is closed."""


def test_only_its_server_stops_a_worker_process(mail: Mail) -> None:
    """systemd sends SIGTERM to all processes of a service. The server then finishes its running requests."""
    process = start(mail, STOPPING)
    try:
        assert isinstance(receive(mail), Ready)
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(process.pid, number)
        assert not process.has_ended(within_s=0.1)
        process.close()
        assert receive(mail) == Died("exit status 0")
    finally:
        process.kill()
