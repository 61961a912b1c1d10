"""The decode process: its limits, its end, and the error for every way it can die."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from longtake.errors import UnsupportedVideo
from longtake.media.sandbox import DecodeProcess, Limits, decode_process
from longtake.media.source import SourceReader, open_source
from longtake.video import Span
from tests.media.clips import X264_SHORT_GOP, Clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Clip("clip.mp4", frames=48, options=X264_SHORT_GOP).write(tmp_path_factory.mktemp("sandbox"))


@pytest.fixture(scope="module")
def heavy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small file whose frames take about a second each when they are read at the size BIG."""
    clip = Clip("heavy.mp4", frames=24, pix_fmt="yuv420p10le", tags=(9, 1, 9, 16))
    return clip.write(tmp_path_factory.mktemp("heavy"))


BIG = (3840, 2160)
PROGRAM = "longtake.media.decode_server"


def argument(path: Path) -> dict[str, str]:
    return {"path": str(path), "container": "mp4"}


def whole(source: SourceReader) -> Span:
    return Span(0, source.facts.num_frames, source.facts.rate)


def alive(pid: int) -> bool:
    """True if the process runs; False if it is gone or only waits for its parent to notice its end."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return not Path("/proc").exists()


def children() -> set[int]:
    """The process ids of this process's children."""
    listed = Path(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/children")
    if not listed.exists():
        pytest.skip("this system does not list a process's children")
    return {int(pid) for pid in listed.read_text().split()}


@contextmanager
def open_with_pid(path: Path) -> Iterator[tuple[SourceReader, int]]:
    """Opens a video and yields its reader and the process id of its decode process."""
    before = children()
    with open_source(path) as source:
        (pid,) = children() - before
        yield source, pid


@pytest.fixture
def process(clip: Path) -> Iterator[DecodeProcess]:
    with decode_process(PROGRAM, argument(clip), Limits()) as process:
        yield process


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGKILL, "was killed, most likely because memory ran out"),
        (signal.SIGSEGV, r"crashed its decoder \(SIGSEGV\)"),
        (signal.SIGXCPU, "more than 240 s of processor time"),
    ],
)
def test_a_killed_process_raises_an_error_that_says_why(
    process: DecodeProcess, number: signal.Signals, words: str
) -> None:
    process.call({"method": "facts"})
    os.kill(process.pid, number)
    with pytest.raises(UnsupportedVideo, match=words):
        process.call({"method": "facts"})
    with pytest.raises(UnsupportedVideo, match=words):
        process.call({"method": "facts"})
    assert not alive(process.pid)


def test_a_process_that_hangs_is_killed(clip: Path) -> None:
    with decode_process(PROGRAM, argument(clip), Limits(wall_s=0.3)) as process:
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(UnsupportedVideo, match=r"longer than 0\.3 s"):
            process.call({"method": "facts"})
        assert not alive(process.pid)


def test_reading_is_bounded_in_time(clip: Path) -> None:
    with pytest.raises(UnsupportedVideo, match=r"longer than 0\.01 s"), open_source(clip, limits=Limits(wall_s=0.01)):
        pass


def test_reading_is_bounded_in_processor_time(heavy: Path) -> None:
    words = r"more than 0\.2 s of processor time"
    with open_source(heavy, limits=Limits(cpu_s=0.2)) as source, pytest.raises(UnsupportedVideo, match=words):
        list(source.frames(whole(source), BIG))


def test_reading_is_bounded_in_memory(heavy: Path) -> None:
    limits = Limits(memory_bytes=420 << 20)
    with pytest.raises(UnsupportedVideo, match="memory"), open_source(heavy, limits=limits) as source:
        list(source.frames(whole(source), BIG))


def test_the_process_ends_with_the_block(clip: Path) -> None:
    with open_with_pid(clip) as (source, pid):
        assert alive(pid)
    assert not alive(pid)
    with pytest.raises(UnsupportedVideo, match="no longer open"):
        next(source.frames(whole(source)))


def test_the_process_ends_when_the_block_raises(clip: Path) -> None:
    pids = []

    def read_and_fail() -> None:
        with open_with_pid(clip) as (source, pid):
            pids.append(pid)
            next(source.frames(whole(source)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_and_fail()
    assert not alive(*pids)


def test_the_process_ends_when_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(100))
    before = children()
    with pytest.raises(UnsupportedVideo), open_source(tmp_path / "bad.mp4"):
        pass
    assert children() == before


def test_the_process_ends_when_its_parent_is_killed(clip: Path) -> None:
    program = f"""
import os, signal
from longtake.media.sandbox import DecodeProcess, Limits
process = DecodeProcess({PROGRAM!r}, {argument(clip)!r}, Limits())
process.call({{"method": "facts"}})
print(process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    pid = int(subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=False).stdout)
    deadline = time.monotonic() + 60
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_limits_hold_in_the_process(process: DecodeProcess) -> None:
    process.call({"method": "facts"})
    listed = Path(f"/proc/{process.pid}/limits")
    if not listed.exists():
        pytest.skip("this system does not show a process's limits")
    limits = {line[:25].strip(): line[25:].split()[0] for line in listed.read_text().splitlines()[1:]}
    assert limits["Max address space"] == str(2 << 30)
    assert limits["Max file size"] == "0"
    assert limits["Max core file size"] == "0"
    assert limits["Max cpu time"] != "unlimited"


def test_the_process_has_no_network_and_no_secrets(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGTAKE_TEST_SECRET", "xyzzy")
    with decode_process(PROGRAM, argument(clip), Limits()) as process:
        process.call({"method": "facts"})
        facts = Path(f"/proc/{process.pid}")
        if not facts.exists():
            pytest.skip("this system does not show a process's environment")
        assert b"xyzzy" not in (facts / "environ").read_bytes()
        assert list(Path(os.readlink(facts / "cwd")).iterdir()) == []
        may_leave = (
            subprocess.run(["unshare", flag, "true"], check=False, capture_output=True) for flag in ("-n", "-rn")
        )
        if shutil.which("unshare") is None or all(tried.returncode for tried in may_leave):
            pytest.skip("this system does not let a process leave the network")
        interfaces = (facts / "net/dev").read_text().splitlines()[2:]
        assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]


def test_abandoned_streams_are_closed(clip: Path) -> None:
    with open_with_pid(clip) as (source, pid):
        held = Path(f"/proc/{pid}/fd")
        if not held.exists():
            pytest.skip("this system does not show a process's open files")
        for _ in range(5):
            next(source.frames(whole(source), chunk=1))
        next(source.frames(whole(source), chunk=1))
        assert [os.readlink(file) for file in held.iterdir()].count(str(clip)) <= 2


def test_threads_can_read_at_the_same_time(clip: Path) -> None:
    with open_source(clip) as source:
        expected = np.concatenate(list(source.frames(whole(source))))
        seen: list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]] = []

        def read() -> None:
            seen.append(np.concatenate(list(source.frames(whole(source), chunk=3))))

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(seen) == 3
        for frames in seen:
            np.testing.assert_array_equal(frames, expected)
