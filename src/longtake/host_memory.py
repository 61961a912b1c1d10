"""Reads how much memory the machine has for this process, with the limits of the process's container."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_MEMINFO, _OWN_GROUPS = Path("/proc/meminfo"), Path("/proc/self/cgroup")


@dataclass(frozen=True)
class HostMemory:
    """Memory of the machine in bytes.

    available: what new work could use without swapping. Memory that caches files counts, because it can be given up.
    total: what this process may use in all: the machine's memory, or the limit of its container if that is less.
    """

    available: int
    total: int


@dataclass(frozen=True)
class _Version:
    """A version of Linux's control groups. The limits of containers and of services are those of control groups.

    root: the folder of the outermost group that this process sees. Below it, each group has a folder. Of controllers
        that are joined, its name may be that of all of them, such as `cpu,memory`.
    controller: the name in the line of /proc/self/cgroup that has this process's group. The line may name others, too.
    limits: the files in a group's folder with its limits in bytes. Beyond any of them, processes wait or are killed.
    used: the file with its used memory in bytes.
    caches: the names in its file `memory.stat` of the memory that caches files, in bytes.
    """

    root: Path
    controller: str
    limits: tuple[str, ...]
    used: str
    caches: tuple[str, str]


_VERSIONS = (
    _Version(
        Path("/sys/fs/cgroup"), "", ("memory.max", "memory.high"), "memory.current", ("active_file", "inactive_file")
    ),
    _Version(
        Path("/sys/fs/cgroup/memory"),
        "memory",
        ("memory.limit_in_bytes",),
        "memory.usage_in_bytes",
        ("total_active_file", "total_inactive_file"),
    ),
)


def host_memory() -> HostMemory | None:
    """Returns the machine's memory for this process. Returns None on systems other than Linux."""
    try:
        numbers = _numbers(_MEMINFO)
        host = HostMemory(numbers["MemAvailable:"] * 1024, numbers["MemTotal:"] * 1024)
    except (OSError, KeyError, ValueError):
        return None
    limited = [_of_group(folder, version) for version in _VERSIONS for folder in _own_groups(version)]
    all_limits = [host, *(memory for memory in limited if memory is not None)]
    total = min(memory.total for memory in all_limits)
    return HostMemory(min(total, *(memory.available for memory in all_limits)), total)


def _own_groups(version: _Version) -> Iterator[Path]:
    """Yields the folders of this process's group and of all groups around it, from the outermost one on.

    In a container, the process's group may be named as the machine sees it, and have no folder. The outermost folder is
    the container's own then.
    """
    try:
        # The names of groups are bytes, and need not be UTF-8.
        lines = [os.fsdecode(line).split(":", 2) for line in _OWN_GROUPS.read_bytes().splitlines()]
    except OSError:
        lines = []
    found = ((names, path) for _, names, path in lines if version.controller in names.split(","))
    controllers, path = next(found, (version.controller, "/"))
    folder = version.root if version.root.is_dir() else version.root.parent / controllers
    yield folder
    for name in Path(path).parts[1:]:
        folder /= name
        yield folder


def _of_group(folder: Path, version: _Version) -> HostMemory | None:
    """Returns the memory that a control group (cgroup) of Linux leaves to its processes. Returns None if the group has
    no limit, or if `folder` does not belong to a group.

    folder: the group's folder in the file system.
    version: the version of control groups, which has the names of the files in the folder.
    """
    try:
        texts = [(folder / name).read_text().strip() for name in version.limits if (folder / name).exists()]
        limit = min(int(text) for text in texts if text != "max")  # a ValueError if there is none
        used = int((folder / version.used).read_text())
        numbers = _numbers(folder / "memory.stat")
        return HostMemory(max(0, limit - used + sum(numbers[name] for name in version.caches)), limit)
    except (OSError, KeyError, ValueError):
        return None


def _numbers(file: Path) -> dict[str, int]:
    """Returns the numbers in a file with a name and a number in each line."""
    lines = [line.split() for line in file.read_text().splitlines()]
    return {name: int(number) for name, number, *_ in lines}
