"""Troubles for the soak: processes that freeze, a disk that fills up, and a database that restarts."""

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import pytest

from longtake.system import start_ticks
from tests.database.fixtures import Postgres

Trouble = Callable[[], None]
"""Makes trouble for a moment, and ends it."""

DISK_BYTES = 64 * 1024**2


def froze(pids: Callable[[], list[int]], chance: random.Random, longest_s: float) -> Trouble:
    """Returns a trouble that stops one of these processes (SIGSTOP) for a while."""

    def freeze() -> None:
        alive = [pid for pid in pids() if start_ticks(pid) is not None]
        if not alive:
            return
        pid = chance.choice(alive)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            try:
                time.sleep(chance.uniform(0.1, longest_s))
            finally:
                os.kill(pid, signal.SIGCONT)

    return freeze


def filled(folder: Path, chance: random.Random) -> Trouble:
    """Returns a trouble that leaves no room on the disk of `folder` for a while."""

    def fill() -> None:
        ballast = folder / "ballast"
        try:
            with suppress(OSError), ballast.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(64 * 1024))
            time.sleep(chance.uniform(0.2, 1.5))
        finally:
            ballast.unlink(missing_ok=True)

    return fill


def restarted(postgres: Postgres, chance: random.Random) -> Trouble:
    """Returns a trouble that restarts PostgreSQL, sometimes as after a crash."""
    return lambda: postgres.control("-m", chance.choice(["fast", "immediate"]), "restart")


@contextmanager
def troubled(troubles: list[Trouble], chance: random.Random, every_s: float) -> Iterator[list[int]]:
    """Makes the troubles in turn, again and again, in a thread. Yields how often each was made."""
    ending, made = threading.Event(), [0] * len(troubles)

    def run() -> None:
        for number in cycle(range(len(troubles))):
            if ending.wait(chance.uniform(0.5, 1.5) * every_s):
                return
            troubles[number]()
            made[number] += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield made
    finally:
        ending.set()
        thread.join()


@dataclass(frozen=True)
class MemoryGroup:
    """A control group whose processes the kernel kills when they use too much memory. `folder`: its control files."""

    folder: Path

    def add(self, pid: int) -> bool:
        """Moves a process into the group, where its new memory counts. Returns False if it has ended."""
        try:
            (self.folder / "cgroup.procs").write_text(str(pid))
        except ProcessLookupError:
            return False
        return True

    @property
    def num_killed(self) -> int:
        """The number of processes that the kernel has killed in this group."""
        report = next(path for name in ("memory.events", "memory.oom_control") if (path := self.folder / name).exists())
        counts = dict(line.split() for line in report.read_text().splitlines())
        return int(counts["oom_kill"])


@contextmanager
def memory_group(num_bytes: int) -> Iterator[MemoryGroup]:
    """Makes a control group below that of this process, whose processes together may use `num_bytes` of memory.

    Skips the test if that is not possible: only root may, and the kernel has to count memory there.
    """
    groups = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    own = {names: path.lstrip("/") for _, names, path in groups}
    parent, limit = Path("/sys/fs/cgroup/memory") / own.get("memory", ""), "memory.limit_in_bytes"
    if "memory" not in own:
        parent, limit = Path("/sys/fs/cgroup") / own.get("", ""), "memory.max"
    folder = parent / f"longtake-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made in {parent}: {error.strerror}")
    try:
        try:
            (folder / limit).write_text(str(num_bytes))
        except OSError as error:
            pytest.skip(f"the memory of a control group cannot be limited here: {error.strerror}")
        yield MemoryGroup(folder)
    finally:
        with suppress(OSError):  # its processes have not ended yet
            folder.rmdir()


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mounts a small tmpfs in `folder`, and yields the new folder. Skips the test if that is not allowed."""
    disk = folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
