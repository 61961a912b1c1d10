"""Measures how long `/health` takes while a client attacks the server.

    python -m bench.health

The server is that of `longtake serve` in a process of its own, with SQLite and without worker processes. `/health` is
asked each 20 ms on a new connection, while another process carries out one attack after the other (`bench.attacks`),
and in an idle stretch before and after them.

Other programs on the machine also delay the answers: the idle stretches show by how much. So two more things are
measured:

- the processor time that the server used while an answer was waited for. Without other programs, the answer would take
  no longer than that.
- the longest round of the server's event loop, and the processor time of the loop's thread in it, by a probe in the
  server.

Aim: an answer takes at most 100 ms, or, beside other programs, at most 100 ms of the server's processor time.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from bench.attacks import ATTACKS, Answers, Target, head, sent
from longtake.system import cpu_seconds

POLL_S = 0.02
TICK_S = 0.005
"""Seconds between two looks of the probe at the clock."""
AIM_S = 0.1


@dataclass(frozen=True)
class Round:
    """Rounds of the server's event loop between two looks of the probe at the clock. All times are in seconds.

    ended: the time of the second look, by the clock of `time.monotonic`.
    wall: the time between the looks.
    computed: the processor time of the event loop's thread in that time.
    """

    ended: float
    wall: float
    computed: float


@dataclass(frozen=True)
class Health:
    """One answer to `/health`.

    status: the HTTP status, or `closed`.
    seconds: the time until the answer.
    computed: the processor time of the server in that time, at most `seconds`.
    """

    status: str
    seconds: float
    computed: float


@dataclass(frozen=True)
class Figures:
    """What was measured during one attack: the answers to the attacker by their status, those to `/health`, and the
    longer rounds of the server's event loop."""

    answers: Answers
    health: tuple[Health, ...]
    rounds: tuple[Round, ...]

    @property
    def worst(self) -> float:
        """The longest time until an answer to `/health` in seconds."""
        return max(one.seconds for one in self.health)

    @property
    def computed(self) -> float:
        """The most seconds of processor time that the server used until an answer to `/health`."""
        return max(one.computed for one in self.health)

    @property
    def num_failed(self) -> int:
        """The number of requests to `/health` that got another status than 200."""
        return sum(one.status != "200" for one in self.health)

    def row(self, name: str) -> str:
        """Returns a line with these figures, in milliseconds."""
        median = statistics.median(one.seconds for one in self.health)
        longest = max((one.wall for one in self.rounds), default=0.0)
        most = max((one.computed for one in self.rounds), default=0.0)
        figures = "".join(f"{1000 * seconds:9.0f}" for seconds in (self.worst, self.computed, longest, most))
        failed = f", {self.num_failed} of /health failed" if self.num_failed else ""
        answers = ", ".join(f"{status} x {number}" for status, number in sorted(self.answers.items()))
        return f"{name:25s}{1000 * median:8.1f}{figures}   {answers}{failed}"


@dataclass
class Server:
    """A running server: its port, its process id, and the longer rounds of its event loop so far."""

    port: int
    pid: int
    rounds: list[Round]


def main(seconds: float = 4.0, share: float = 1.0) -> dict[str, Figures]:
    """Measures each attack and prints the figures. Returns them by the attack's name.

    seconds: the time for each attack. share: the size of the attacks, relative to the largest possible one: 0..1.
    """
    found: dict[str, Figures] = {}
    print(f"{'ms':25s}      /health                   round of the loop")
    print(f"{'':25s}  median    worst computed  longest computed   answers to the attacker")
    with _served() as server, ProcessPoolExecutor(1, get_context("spawn")) as attackers:
        target = Target(server.port, seconds, share)
        for name, attack in {"idle": idle, **ATTACKS, "idle again": idle}.items():
            found[name] = _measured(server, attackers, attack, target)
            print(found[name].row(name), flush=True)
    worst, computed = (max(getattr(found[name], figure) for name in ATTACKS) for figure in ("worst", "computed"))
    print(f"worst answer {1000 * worst:.0f} ms, computed {1000 * computed:.0f} ms (aim: {1000 * AIM_S:.0f})")
    return found


def idle(target: Target) -> Answers:
    """Waits for the time of an attack."""
    time.sleep(target.seconds)
    return Answers()


def _measured(
    server: Server, attackers: ProcessPoolExecutor, attack: Callable[[Target], Answers], target: Target
) -> Figures:
    """Asks for `/health` while another process attacks, and a little longer, until the server has caught up."""
    began, health = time.monotonic(), list[Health]()
    attacking = attackers.submit(attack, target)
    ends: float | None = None
    while ends is None or time.monotonic() < ends:
        if ends is None and attacking.done():
            ends = time.monotonic() + min(0.5, target.seconds)
        asked, used = time.monotonic(), cpu_seconds(server.pid) or 0.0
        status = sent(target, head("GET", "/health"))
        seconds = time.monotonic() - asked
        health.append(Health(status, seconds, min(seconds, (cpu_seconds(server.pid) or 0.0) - used)))
        time.sleep(max(0.0, asked + POLL_S - time.monotonic()))
    return Figures(attacking.result(), tuple(health), tuple(one for one in list(server.rounds) if one.ended > began))


@contextmanager
def _served() -> Iterator[Server]:
    """Runs a server in a process of its own. Yields it once it listens."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "bench.health", "serve", folder]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdout is not None
            lines = process.stdout
            server = Server(int(lines.readline()), process.pid, [])
            reader = threading.Thread(
                target=lambda: server.rounds.extend(Round(*json.loads(line)) for line in lines), daemon=True
            )
            reader.start()
            try:
                yield server
            finally:
                process.terminate()
                reader.join()


def _serve(folder: Path) -> None:
    """Runs a server, and prints its port, and then the numbers of each `Round` of more than 20 ms as a line of JSON."""
    from longtake.database.migrate import open_database
    from longtake.private import new_files_private, prepare_data_folder
    from longtake.service import logs
    from longtake.service.server import Address, run
    from longtake.settings import settings

    def on_listening(address: Address) -> None:
        print(address.port, flush=True)
        _probe()

    chosen = settings(data_dir=folder, slots=())
    logs.setup(chosen)
    prepare_data_folder(chosen)
    with new_files_private():
        run(chosen, open_database(chosen), Address("127.0.0.1", 0), None, on_listening)


def _probe() -> None:
    """Begins to measure the rounds of the running event loop."""
    import asyncio

    loop = asyncio.get_running_loop()

    def look(before: float, used: float) -> None:
        now, now_used = time.monotonic(), time.thread_time()
        if now - before > 4 * TICK_S:
            print(json.dumps((now, now - before, now_used - used)), flush=True)
        loop.call_later(TICK_S, look, now, now_used)

    look(time.monotonic(), time.thread_time())


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        _serve(Path(sys.argv[2]))
    else:
        main()
