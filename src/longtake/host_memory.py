"""Reads how much memory the machine has for this process, with the limits of the process's container."""

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

    root: the folder of the outermost group that this process sees. Below it, each group has a folder.
    controller: the name in the line of /proc/self/cgroup that has this process's group.
    limit, used: the files in a group's folder with its limit and its used memory, in bytes.
    caches: the names in its file `memory.stat` of the memory that caches files, in bytes.
    """

    root: Path
    controller: str
    limit: str
    used: str
    caches: tuple[str, str]


_VERSIONS = (
    _Version(Path("/sys/fs/cgroup"), "", "memory.max", "memory.current", ("active_file", "inactive_file")),
    _Version(
        Path("/sys/fs/cgroup/memory"),
        "memory",
        "memory.limit_in_bytes",
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
    folder = version.root
    yield folder
    try:
        lines = [line.split(":", 2) for line in _OWN_GROUPS.read_text().splitlines()]
    except OSError:
        return
    for name in next((Path(path).parts[1:] for _, controller, path in lines if controller == version.controller), ()):
        folder /= name
        yield folder


def _of_group(folder: Path, version: _Version) -> HostMemory | None:
    """Returns the memory that a control group (cgroup) of Linux leaves to its processes. Returns None if the group has
    no limit, or if `folder` does not belong to a group.

    folder: the group's folder in the file system.
    version: the version of control groups, which has the names of the files in the folder.
    """
    try:
        limit, used = (int((folder / name).read_text()) for name in (version.limit, version.used))
        numbers = _numbers(folder / "memory.stat")
        return HostMemory(max(0, limit - used + sum(numbers[name] for name in version.caches)), limit)
    except (OSError, KeyError, ValueError):
        return None


def _numbers(file: Path) -> dict[str, int]:
    """Returns the numbers in a file with a name and a number in each line."""
    lines = [line.split() for line in file.read_text().splitlines()]
    return {name: int(number) for name, number, *_ in lines}
