"""The decode process: its limits, its end, and the error for every way it can die."""

import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from longtake.errors import Cancelled, DecoderFailed, LongtakeError, UnsupportedVideo, machine_error
from longtake.media.child_errors import timeout_error
from longtake.media.limits import Limits
from longtake.media.sandbox import DecodeProcess
from longtake.media.source import SourceReader, open_source
from longtake.video import Span
from tests.descriptors import no_free_descriptor
from tests.media.clips import X264_SHORT_GOP, Clip
from tests.media.takeover import ROOT, taken_over
from tests.no_threads import no_threads


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


def started(path: Path, limits: Limits = Limits()) -> closing[DecodeProcess]:  # noqa: B008
    return closing(DecodeProcess(PROGRAM, path, {"container": "mp4"}, limits))


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
    listed = list(Path("/proc/self/task").glob("*/children"))
    if not listed:
        pytest.skip("this system does not list a process's children")
    found: set[int] = set()
    for of_thread in listed:
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended since it was listed
            found.update(int(pid) for pid in of_thread.read_text().split())
    return found


@contextmanager
def open_with_pid(path: Path) -> Iterator[tuple[SourceReader, int]]:
    """Opens a video and yields its reader and the process id of its decode process."""
    before = children()
    with open_source(path) as source:
        (pid,) = children() - before
        yield source, pid


@pytest.fixture
def process(clip: Path) -> Iterator[DecodeProcess]:
    with started(clip) as process:
        yield process


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (signal.SIGKILL, DecoderFailed, r"ended from outside \(SIGKILL\), most likely because .* memory ran out"),
        (signal.SIGTERM, DecoderFailed, r"ended from outside \(SIGTERM\)"),
        (signal.SIGSEGV, UnsupportedVideo, r"crashed its decoder \(SIGSEGV\)"),
        (signal.SIGSYS, UnsupportedVideo, r"crashed its decoder \(SIGSYS\)"),
        (signal.SIGXCPU, UnsupportedVideo, "more than 240 s of processor time"),
    ],
)
def test_a_killed_process_raises_an_error_that_says_why(
    process: DecodeProcess, number: signal.Signals, kind: type[LongtakeError], words: str
) -> None:
    process.call({"method": "facts"})
    os.kill(process.pid, number)
    with pytest.raises(kind, match=words):
        process.call({"method": "facts"})
    with pytest.raises(kind, match=words):
        process.call({"method": "facts"})
    assert not alive(process.pid)


def test_a_check_ends_a_call_and_its_process(heavy: Path) -> None:
    before, cancelled = children(), threading.Event()

    def check() -> None:
        if cancelled.is_set():
            raise Cancelled

    with open_source(heavy, check=check) as source:
        (pid,) = children() - before
        threading.Timer(0.5, cancelled.set).start()
        with pytest.raises(Cancelled):
            list(source.frames(whole(source), BIG))  # takes many seconds
        assert not alive(pid)


def test_a_process_that_stands_still_is_killed_and_not_blamed_on_the_file(process: DecodeProcess) -> None:
    process.call({"method": "facts"})
    process._limits = Limits(wall_s=0.3)
    os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(DecoderFailed, match=r"stood still: in 0\.3 s it could use 0\.0 s"):
        process.call({"method": "facts"})
    assert not alive(process.pid)


@pytest.mark.parametrize(
    ("used_s", "kind"),
    [(0.0, DecoderFailed), (59.0, DecoderFailed), (61.0, UnsupportedVideo), (None, UnsupportedVideo)],
)
def test_a_process_that_computes_for_too_long_is_blamed_on_the_file(
    used_s: float | None, kind: type[LongtakeError]
) -> None:
    assert type(timeout_error(was_ready=True, wall_s=120, used_s=used_s)) is kind


def test_a_process_that_cannot_start_is_not_blamed_on_the_file(clip: Path) -> None:
    with (
        closing(DecodeProcess("longtake.media.no_such_module", clip, {}, Limits())) as process,
        pytest.raises(DecoderFailed, match=r"could not start \(exit status 1\)"),
    ):
        process.call({})
    error = timeout_error(was_ready=False, wall_s=0.01, used_s=None)
    assert isinstance(error, DecoderFailed)
    assert "did not start within 0.01 s" in error.message


def test_a_file_that_is_gone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedVideo, match="cannot be opened: No such file"):
        DecodeProcess(PROGRAM, tmp_path / "gone.mp4", {"container": "mp4"}, Limits())


def test_a_missing_descriptor_is_not_blamed_on_the_file(clip: Path) -> None:
    with no_free_descriptor(), pytest.raises(DecoderFailed, match="cannot be opened: Too many open files"):
        DecodeProcess(PROGRAM, clip, {"container": "mp4"}, Limits())


def test_processor_time_is_bounded_between_calls(clip: Path) -> None:
    """A decoder that was taken over could compute while nobody asks for anything."""
    with taken_over(clip, Limits(cpu_s=0.2)) as process:
        process._requests.put(({"do": "spin"}, None))
        deadline = time.monotonic() + 30
        while alive(process.pid):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        with pytest.raises(UnsupportedVideo, match=r"more than 0\.2 s of processor time"):
            process.call({"do": "read"})


def test_the_number_of_threads_is_bounded_for_every_user(clip: Path) -> None:
    """Root too, which the kernel's limit of threads does not bind."""
    with taken_over(clip, Limits(wall_s=20)) as process:
        with pytest.raises(UnsupportedVideo, match="more than 64 threads"):
            process.call({"do": "crowd"})
        assert not alive(process.pid)


def test_reading_is_bounded_in_processor_time(heavy: Path) -> None:
    words = r"more than 0\.2 s of processor time"
    with open_source(heavy, limits=Limits(cpu_s=0.2)) as source, pytest.raises(UnsupportedVideo, match=words):
        list(source.frames(whole(source), BIG))


def test_opening_is_bounded_in_processor_time(clip: Path, tmp_path: Path) -> None:
    """The texts about a file: FFmpeg compares each one with all that it has read before."""
    content = clip.read_bytes()
    texts = b"".join(struct.pack(">I4sHHx", 13, b"\xa9nam", 1, number) for number in range(30_000))
    udta = struct.pack(">I4s", 8 + len(texts), b"udta") + texts
    place = content.index(b"moov") - 4
    (size,) = struct.unpack_from(">I", content, place)
    assert place + size == len(content)
    path = tmp_path / "clip.mp4"
    path.write_bytes(content[:place] + struct.pack(">I", size + len(udta)) + content[place + 4 :] + udta)
    words = r"more than 0\.5 s of processor time"
    with pytest.raises(UnsupportedVideo, match=words), open_source(path, limits=Limits(open_cpu_s=0.5)):
        pass


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


@pytest.mark.parametrize("request_", [{"do": "read"}, {"do": "spin"}])
def test_the_process_ends_at_once_when_its_parent_is_killed(clip: Path, request_: dict[str, str]) -> None:
    program = f"""
import os, signal, time
from pathlib import Path
from longtake.media.limits import Limits
from tests.media.takeover import taken_over
with taken_over(Path({str(clip)!r})) as process:
    process.call({{"do": "read"}})
    process._requests.put(({request_!r}, None))
    time.sleep(0.1)
    print(process.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=ROOT, check=False)
    pid, deadline = int(ended.stdout), time.monotonic() + 20
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_root_without_the_right_to_kill_other_users_processes_can_end_the_process(clip: Path) -> None:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root with setpriv can give up a single capability")
    program = f"""
from pathlib import Path
from longtake.media.limits import Limits
from longtake.media.sandbox import DecodeProcess
process = DecodeProcess({PROGRAM!r}, Path({str(clip)!r}), {{"container": "mp4"}}, Limits())
process.call({{"method": "facts"}})
process.close()
"""
    command = ["setpriv", "--bounding-set=-kill", sys.executable, "-c", program]
    subprocess.run(command, timeout=60, check=True)


def test_the_process_outlives_the_thread_that_opened_it(clip: Path) -> None:
    opened: list[closing[DecodeProcess]] = []
    thread = threading.Thread(target=lambda: opened.append(started(clip)))
    thread.start()
    thread.join()
    with opened[0] as process:
        assert process.call({"method": "facts"})


def test_the_limits_hold_in_the_process(process: DecodeProcess) -> None:
    process.call({"method": "facts"})
    listed = Path(f"/proc/{process.pid}/limits")
    if not listed.exists():
        pytest.skip("this system does not show a process's limits")
    limits = {line[:25].strip(): line[25:].split()[0] for line in listed.read_text().splitlines()[1:]}
    assert limits["Max address space"] == str(2 << 30)
    assert limits["Max file size"] == "0"
    assert limits["Max core file size"] == "0"
    assert int(limits["Max processes"]) < 20_000, "or threads would exhaust the machine's memory"


def test_the_process_has_no_secrets_and_one_file(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGTAKE_TEST_SECRET", "xyzzy")
    with open(clip, "rb") as other, started(clip) as process:
        os.set_inheritable(other.fileno(), True)
        process.call({"method": "facts"})
        facts = Path(f"/proc/{process.pid}")
        if not facts.exists():
            pytest.skip("this system does not show a process's environment")
        assert b"xyzzy" not in (facts / "environ").read_bytes()
        open_files = [os.readlink(file) for file in (facts / "fd").iterdir()]
        assert sorted(name.partition(":")[0] for name in open_files) == sorted(
            ["/dev/null", "/dev/null", "pipe", "pipe", str(clip)]
        )


def test_abandoned_streams_are_closed(clip: Path) -> None:
    with open_with_pid(clip) as (source, pid):
        threads = Path(f"/proc/{pid}/task")
        if not threads.exists():
            pytest.skip("this system does not show a process's threads")
        next(source.frames(whole(source), chunk=1))
        next(source.frames(whole(source), chunk=1))
        before = len(list(threads.iterdir()))
        for _ in range(5):
            next(source.frames(whole(source), chunk=1))
        assert len(list(threads.iterdir())) <= before, "each open stream has threads of its own"


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


@pytest.mark.parametrize("allowed", [0, 1])
def test_without_threads_no_decoder_starts(clip: Path, monkeypatch: pytest.MonkeyPatch, allowed: int) -> None:
    began: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def note(*words: Any, **options: Any) -> "subprocess.Popen[bytes]":
        began.append(popen(*words, **options))
        return began[-1]

    monkeypatch.setattr(subprocess, "Popen", note)
    with no_threads(monkeypatch, "decoder", allowed=allowed), pytest.raises(DecoderFailed, match="threads") as raised:
        started(clip)
    assert len(began) == allowed
    assert [process.returncode for process in began] == [-signal.SIGKILL] * allowed
    assert machine_error(raised.value) is not None
