"""The child process: bounded, without network, always gone, and every death of it one sentence."""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from longtake.errors import UnsupportedVideo
from longtake.media.sandbox import Child, Limits, running
from longtake.media.source import SourceReader, open_source
from longtake.video import Span
from tests.media.clips import X264_SHORT_GOP, Clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Clip("clip.mp4", frames=48, options=X264_SHORT_GOP).write(tmp_path_factory.mktemp("sandbox"))


@pytest.fixture(scope="module")
def heavy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small, but a second of work per frame when it is asked for at BIG."""
    clip = Clip("heavy.mp4", frames=24, pix_fmt="yuv420p10le", tags=(9, 1, 9, 16))
    return clip.write(tmp_path_factory.mktemp("heavy"))


BIG = (3840, 2160)


def argument(path: Path) -> dict[str, str]:
    return {"path": str(path), "container": "mp4"}


def whole(source: SourceReader) -> Span:
    return Span(0, source.facts.num_frames, source.facts.rate)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def child(clip: Path) -> Iterator[Child]:
    with running("longtake.media.child", argument(clip), Limits()) as child:
        yield child


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGKILL, "was killed, most likely because memory ran out"),
        (signal.SIGSEGV, r"crashed its decoder \(SIGSEGV\)"),
        (signal.SIGXCPU, "more than 240 s of processor time"),
    ],
)
def test_a_killed_child_is_a_sentence(child: Child, number: signal.Signals, words: str) -> None:
    child.ask({"do": "facts"})
    os.kill(child.pid, number)
    with pytest.raises(UnsupportedVideo, match=words):
        child.ask({"do": "facts"})
    with pytest.raises(UnsupportedVideo, match=words):
        child.ask({"do": "facts"})
    assert not alive(child.pid)


def test_a_child_that_hangs_is_stopped(clip: Path) -> None:
    with running("longtake.media.child", argument(clip), Limits(wall_s=0.3)) as child:
        os.kill(child.pid, signal.SIGSTOP)
        with pytest.raises(UnsupportedVideo, match=r"longer than 0\.3 s"):
            child.ask({"do": "facts"})
        assert not alive(child.pid)


def test_wall_clock(clip: Path) -> None:
    started = time.monotonic()
    with pytest.raises(UnsupportedVideo, match=r"longer than 0\.01 s"), open_source(clip, limits=Limits(wall_s=0.01)):
        pass
    assert time.monotonic() - started < 5


def test_processor_time(heavy: Path) -> None:
    words = r"more than 0\.2 s of processor time"
    with open_source(heavy, limits=Limits(cpu_s=0.2)) as source, pytest.raises(UnsupportedVideo, match=words):
        list(source.frames(whole(source), BIG))


def test_memory(heavy: Path) -> None:
    limits = Limits(memory_bytes=420 << 20)
    with pytest.raises(UnsupportedVideo, match="memory"), open_source(heavy, limits=limits) as source:
        list(source.frames(whole(source), BIG))


def test_the_child_is_gone_after_the_block(clip: Path) -> None:
    with open_source(clip) as source:
        pid = source._child.pid
        assert alive(pid)
    assert not alive(pid)
    with pytest.raises(UnsupportedVideo, match="no longer open"):
        next(source.frames(whole(source)))


def test_the_child_is_gone_when_the_block_fails(clip: Path) -> None:
    pids = []

    def read_and_fail() -> None:
        with open_source(clip) as source:
            pids.append(source._child.pid)
            next(source.frames(whole(source)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_and_fail()
    assert not alive(*pids)


def test_the_child_is_gone_when_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(100))
    before = _children()
    with pytest.raises(UnsupportedVideo), open_source(tmp_path / "bad.mp4"):
        pass
    assert _children() == before


def _children() -> set[str]:
    listed = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    if not listed.exists():
        pytest.skip("this system does not list a process's children")
    return set(listed.read_text().split())


def test_the_child_ends_when_its_parent_is_gone(clip: Path) -> None:
    child = Child("longtake.media.child", argument(clip), Limits())
    child.ask({"do": "facts"})
    child._stdin.close()
    assert child._process.wait(timeout=5) == 0
    child.close()


def test_limits_hold_inside(child: Child) -> None:
    child.ask({"do": "facts"})
    listed = Path(f"/proc/{child.pid}/limits")
    if not listed.exists():
        pytest.skip("this system does not show a process's limits")
    limits = {line[:25].strip(): line[25:].split()[0] for line in listed.read_text().splitlines()[1:]}
    assert limits["Max address space"] == str(2 << 30)
    assert limits["Max file size"] == "0"
    assert limits["Max core file size"] == "0"
    assert limits["Max cpu time"] != "unlimited"


def test_the_child_has_no_network_and_no_secrets(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGTAKE_TEST_SECRET", "xyzzy")
    with running("longtake.media.child", argument(clip), Limits()) as child:
        child.ask({"do": "facts"})
        process = Path(f"/proc/{child.pid}")
        if not process.exists():
            pytest.skip("this system does not show a process's environment")
        assert b"xyzzy" not in (process / "environ").read_bytes()
        assert list(Path(os.readlink(process / "cwd")).iterdir()) == []
        may_leave = (
            subprocess.run(["unshare", flag, "true"], check=False, capture_output=True) for flag in ("-n", "-rn")
        )
        if shutil.which("unshare") is None or all(tried.returncode for tried in may_leave):
            pytest.skip("this system does not let a process leave the network")
        interfaces = (process / "net/dev").read_text().splitlines()[2:]
        assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]


def test_readings_that_were_left_are_closed(clip: Path) -> None:
    with open_source(clip) as source:
        held = Path(f"/proc/{source._child.pid}/fd")
        if not held.exists():
            pytest.skip("this system does not show a process's open files")
        for _ in range(5):
            next(source.frames(whole(source), chunk=1))
        next(source.frames(whole(source), chunk=1))
        assert [os.readlink(file) for file in held.iterdir()].count(str(clip)) <= 2


def test_answers_do_not_mix_between_threads(clip: Path) -> None:
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
