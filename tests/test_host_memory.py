"""The memory of a container is its own: its limit, and what is left of it."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from longtake import host_memory
from longtake.host_memory import HostMemory

GB = 10**9


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the files of Linux are made up: 64 GB of memory, of which 40 GB are available, and no group."""
    (tmp_path / "meminfo").write_text(f"MemTotal: {64 * GB // 1024} kB\nMemAvailable: {40 * GB // 1024} kB\n")
    monkeypatch.setattr(host_memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(host_memory, "_OWN_GROUPS", tmp_path / "cgroup")
    roots = (tmp_path / "v2", tmp_path / "v1")
    versions = tuple(replace(version, root=root) for version, root in zip(host_memory._VERSIONS, roots, strict=True))
    monkeypatch.setattr(host_memory, "_VERSIONS", versions)
    return tmp_path


def group(folder: Path, limit: int | str, used: int, cached: int) -> None:
    """Makes the files of a control group of version 2. Half of the cached memory was used lately."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\nactive_file {cached // 2}\ninactive_file {cached // 2}\n")


def old_group(folder: Path, limit: int, used: int, cached: int) -> None:
    """Makes the files of a control group of version 1."""
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"total_active_file 0\ntotal_inactive_file {cached}\n")


def test_without_a_container_all_memory_counts(files: Path) -> None:
    assert host_memory.host_memory() == HostMemory(40 * GB, 64 * GB)
    group(files / "v2", "max", 5 * GB, 0)
    assert host_memory.host_memory() == HostMemory(40 * GB, 64 * GB)


def test_what_a_container_uses_already_is_not_available(files: Path) -> None:
    group(files / "v2", 16 * GB, 9 * GB, 2 * GB)
    assert host_memory.host_memory() == HostMemory(9 * GB, 16 * GB), "the cached files can be given up"
    group(files / "v2", 16 * GB, 17 * GB, 0)
    assert host_memory.host_memory() == HostMemory(0, 16 * GB)
    group(files / "v2", 128 * GB, GB, 0)
    assert host_memory.host_memory() == HostMemory(40 * GB, 64 * GB), "the machine has less than the limit"


def test_the_narrowest_group_around_the_process_decides(files: Path) -> None:
    (files / "cgroup").write_text("0::/services/longtake.service\n")
    group(files / "v2/services", 32 * GB, 30 * GB, 0)
    group(files / "v2/services/longtake.service", 8 * GB, GB, 0)
    assert host_memory.host_memory() == HostMemory(2 * GB, 8 * GB)


def test_groups_of_version_1_count_too(files: Path) -> None:
    (files / "cgroup").write_text("9:cpu:/other\n4:memory:/named/by/the/machine\n0::/\n")
    old_group(files / "v1", 16 * GB, 10 * GB, 2 * GB)
    assert host_memory.host_memory() == HostMemory(8 * GB, 16 * GB)


def test_a_group_may_slow_its_processes_down_before_its_limit(files: Path) -> None:
    group(files / "v2", "max", 5 * GB, 0)
    (files / "v2/memory.high").write_text(f"{8 * GB}\n")
    assert host_memory.host_memory() == HostMemory(3 * GB, 8 * GB)
    group(files / "v2", 6 * GB, 5 * GB, 0)
    assert host_memory.host_memory() == HostMemory(GB, 6 * GB)


def test_the_name_of_a_group_need_not_be_utf_8(files: Path) -> None:
    (files / "cgroup").write_bytes(b"0::/caf\xe9\n")
    group(Path(os.fsdecode(os.fsencode(files / "v2") + b"/caf\xe9")), 8 * GB, GB, 0)
    assert host_memory.host_memory() == HostMemory(7 * GB, 8 * GB)


@pytest.mark.parametrize(
    ("controllers", "folder"), [("cpu,memory", "v1"), ("memory,hugetlb", "v1"), ("cpu,memory", "cpu,memory")]
)
def test_version_1_may_join_controllers(files: Path, controllers: str, folder: str) -> None:
    (files / "cgroup").write_text(f"5:blkio:/other\n4:{controllers}:/job\n")
    old_group(files / folder / "job", 4 * GB, GB, 0)
    assert host_memory.host_memory() == HostMemory(3 * GB, 4 * GB)


def test_a_system_without_these_files_says_nothing(files: Path) -> None:
    (files / "meminfo").unlink()
    assert host_memory.host_memory() is None


def test_this_machine_has_memory() -> None:
    memory = host_memory.host_memory()
    if memory is None:
        pytest.skip("This system does not say how much memory it has.")
    assert 1 << 20 < memory.available <= memory.total
