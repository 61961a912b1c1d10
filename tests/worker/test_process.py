import json
import os
import signal
import sys
from collections.abc import Iterator
from queue import SimpleQueue

import pytest

from longtake.worker.leases import born
from longtake.worker.process import Child, Message
from tests.worker.help import eventually

ECHO = """
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message["do"] == "print":
        print("a library speaks", flush=True)
    elif message["do"] == "length":
        print(json.dumps({"say": "length", "length": len(message["body"])}), flush=True)
    elif message["do"] == "spawn":
        import subprocess
        other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        print(json.dumps({"say": "spawned", "pid": other.pid}), flush=True)
    elif message["do"] == "silent":
        import os, time
        os.close(1); time.sleep(60)
    elif message["do"] == "exit":
        sys.exit(7)
"""

Mail = SimpleQueue[Message]


@pytest.fixture
def mail() -> Mail:
    return SimpleQueue()


@pytest.fixture
def child(mail: Mail) -> Iterator[Child]:
    child = Child([sys.executable, "-c", ECHO], os.environ, lambda _, message: mail.put(message))
    yield child
    child.kill()
    assert child.ended(within_s=5)


def ask(child: Child, do: str, **facts: object) -> None:
    child.send(json.dumps({"do": do, **facts}).encode())


def test_a_long_message_arrives_whole(child: Child, mail: Mail) -> None:
    ask(child, "length", body="x" * 3_000_000)
    assert mail.get(timeout=10) == {"say": "length", "length": 3_000_000}


def test_sending_does_not_wait_for_a_child_that_does_not_read(mail: Mail) -> None:
    child = Child([sys.executable, "-c", "import time; time.sleep(60)"], os.environ, lambda _, said: mail.put(said))
    for _ in range(10):
        ask(child, "length", body="x" * 1_000_000)
    child.kill()
    assert mail.get(timeout=5) == {"say": "died", "how": "SIGKILL"}


def test_what_is_printed_is_a_line_of_the_log(child: Child, mail: Mail) -> None:
    ask(child, "print")
    assert mail.get(timeout=10) == {"say": "log", "level": "STDOUT", "message": "a library speaks"}


def test_it_ends_when_its_input_does(child: Child, mail: Mail) -> None:
    child.close()
    assert mail.get(timeout=10) == {"say": "died", "how": "exit status 0"}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_death_is_told_by_its_name(child: Child, mail: Mail, number: signal.Signals) -> None:
    os.kill(child.pid, number)
    assert mail.get(timeout=10) == {"say": "died", "how": number.name}


def test_the_exit_status_is_told(child: Child, mail: Mail) -> None:
    ask(child, "exit")
    assert mail.get(timeout=10) == {"say": "died", "how": "exit status 7"}


def test_one_that_closes_its_output_is_killed(child: Child, mail: Mail) -> None:
    ask(child, "silent")
    assert mail.get(timeout=10) == {"say": "died", "how": "SIGKILL"}


def test_killing_it_kills_what_it_started(child: Child, mail: Mail) -> None:
    ask(child, "spawn")
    pid = mail.get(timeout=10)["pid"]
    child.kill()
    assert mail.get(timeout=5)["say"] == "died"
    eventually(lambda: born(pid) is None)


def test_sending_to_a_dead_child_does_nothing(child: Child, mail: Mail) -> None:
    child.kill()
    assert mail.get(timeout=5)["say"] == "died"
    ask(child, "print")
    child.kill()
