"""The troubles of the soak: the kills of the kernel are counted with both versions of control groups."""

from pathlib import Path

import pytest

from tests.worker.troubles import MemoryGroup


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("memory.events", "low 0\nhigh 5\nmax 3\noom 1\noom_kill 2\noom_group_kill 0\n"),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
    ],
)
def test_kills_are_counted(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert MemoryGroup(tmp_path).num_killed == 2
