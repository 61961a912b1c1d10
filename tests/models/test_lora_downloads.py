"""The folder of downloaded LoRAs: what killed processes left in it is deleted, and nothing else."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from longtake import clock
from longtake.models.lora_downloads import (
    FETCHED,
    lora_sweeper,
    private_folder,
    public_folder,
    sweep,
    unfinished_folder,
)
from longtake.settings import Settings
from longtake.system import boot_id
from tests.service.serving import wait_for

OLD = time.time() - 7200

DOWNLOADING = """
import sys, time
from pathlib import Path
from longtake.models.lora_downloads import unfinished_folder
from longtake.settings import Settings

with unfinished_folder(Settings(loras_dir=Path(sys.argv[1]))) as folder:
    (folder / "half").write_bytes(b"half")
    print("begun", flush=True)
    time.sleep(60)
"""
"""A process that downloads a LoRA. Its argument is the LoRA folder."""


def write(path: Path, at: float = OLD) -> Path:
    """Writes a file that last changed at this Unix time, in folders that did so, too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    for changed in (path, path.parent):
        os.utime(changed, (at, at))
    return path


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(loras_dir=tmp_path)


def test_halves_are_deleted_by_age(settings: Settings) -> None:
    root = settings.loras_dir / FETCHED
    halves = [
        write(root / "unfinished" / "tmpabc" / "source-1"),
        write(root / "urls" / "tmpabc" / "source-1"),  # of version 0.1
        write(public_folder(settings) / "o--n" / "v" / ".cache" / "huggingface" / "download" / "x.incomplete"),
        write(private_folder(settings, None) / "hub" / "o--n" / "v" / ".cache" / "x.incomplete"),
    ]
    whole = [
        write(public_folder(settings) / "o--n" / "v" / "s.safetensors"),
        write(private_folder(settings, "me") / "0.safetensors"),
        write(settings.loras_dir / "mine.incomplete"),
        write(root / "unfinished" / "tmpnew" / "source-1", time.time()),
    ]
    write(root / "unfinished" / "tmpnew" / "source-0")  # the folder is old, but another file in it grows
    os.utime(root / "urls", (OLD, OLD))
    sweep(settings)
    assert [path for path in halves if path.exists()] == []
    assert [path for path in whole if not path.exists()] == []
    assert not (root / "unfinished" / "tmpabc").exists()
    sweep(Settings(loras_dir=settings.loras_dir / "absent"))


def test_a_killed_download_is_deleted_by_the_thread(settings: Settings) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", DOWNLOADING, str(settings.loras_dir)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        process.send_signal(signal.SIGKILL)
    unfinished = settings.loras_dir / FETCHED / "unfinished"
    assert [path.name for path in unfinished.rglob("*") if path.is_file()] == ["half"]
    thread = lora_sweeper(settings, every_s=0.02, abandoned_s=0)
    thread.start()
    wait_for(lambda: not list(unfinished.iterdir()), 30)
    thread.stop()


def test_nothing_is_deleted_by_its_age_while_the_clock_is_not_believed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    halves = [
        write(settings.loras_dir / FETCHED / "unfinished" / "tmpabc" / "source-1"),
        write(public_folder(settings) / "o--n" / "v" / ".cache" / "x.incomplete"),
    ]
    monkeypatch.setattr(clock, "is_steady", lambda: False)
    sweep(settings)
    assert [path for path in halves if not path.exists()] == []


@pytest.mark.skipif(boot_id() == "", reason="only Linux tells whether the process of a folder has ended")
def test_the_download_of_a_living_process_stays_whatever_the_clock_says(settings: Settings) -> None:
    with unfinished_folder(settings) as folder:
        write(folder / "source-1")
        sweep(settings, abandoned_s=-1)
        assert (folder / "source-1").exists()
