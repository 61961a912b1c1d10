"""New frames and sound that wait until the source is written."""

import threading
from typing import Any

import numpy as np
import pytest

from longtake.host_memory import HostMemory
from longtake.output import later_writer
from longtake.output.background import Background
from longtake.output.later_writer import MOST_AHEAD_BYTES, LaterWriter, most_ahead_bytes
from longtake.video import OnProgress, Progress, ignore_progress

FRAMES = np.zeros((2, 4, 4, 3), np.uint8)
SOUND = np.zeros((2, 10), np.float32)


class Written:
    """A writer that records what it is called with."""

    def __init__(self) -> None:
        self.kinds: list[str] = []
        self.sounds: list[Any] = []

    def write(self, frames: Any) -> None:
        self.kinds.append("frames")

    def write_source(self, frames: Any, check: Any) -> None:
        self.kinds.append("source")

    def write_sound(self, samples: Any) -> None:
        self.kinds.append("sound")
        self.sounds.append(samples)


def test_frames_are_held_back_until_the_source_is_written_and_keep_their_order() -> None:
    written, may_end = Written(), threading.Event()

    def source(_: OnProgress) -> None:
        may_end.wait()
        written.write_source(FRAMES, None)

    with Background() as background:
        background.start(source)
        later = LaterWriter(written, background, 10_000, ignore_progress)
        later.write_sound(SOUND)
        later.write(FRAMES)
        assert written.kinds == []
        may_end.set()
        later.flush()
        assert written.kinds == ["source", "sound", "frames"]
        later.write(FRAMES)
        assert written.kinds[3:] == ["frames"], "nothing is held back any more"


@pytest.mark.parametrize("most", [0, FRAMES.nbytes])
def test_with_more_bytes_the_caller_waits_for_the_source(most: int) -> None:
    written, may_end = Written(), threading.Event()

    def source(on_progress: OnProgress) -> None:
        on_progress(Progress("footage", 0, 1))
        may_end.wait()
        written.write_source(FRAMES, None)

    with Background() as background:
        background.start(source)
        later = LaterWriter(written, background, most, lambda _: may_end.set())
        if most:
            later.write(FRAMES)
            assert written.kinds == []
        later.write(FRAMES)
        assert written.kinds == ["source", *["frames"] * (2 if most else 1)]


def test_sound_that_is_held_back_does_not_keep_the_sound_of_the_source_in_memory() -> None:
    written, may_end, track = Written(), threading.Event(), np.ones((2, 100), np.float32)

    def source(_: OnProgress) -> None:
        may_end.wait()

    with Background() as background:
        background.start(source)
        later = LaterWriter(written, background, 10_000, ignore_progress)
        later.write_sound(track[:, 90:])
        may_end.set()
        later.flush()
    (sound,) = written.sounds
    assert np.array_equal(sound, track[:, 90:])
    assert not np.shares_memory(sound, track)


def test_an_error_of_the_source_reaches_the_caller() -> None:
    def source(_: OnProgress) -> None:
        raise KeyError("the source is damaged")

    with Background() as background:
        background.start(source)
        later = LaterWriter(Written(), background, 0, ignore_progress)
        with pytest.raises(KeyError, match="damaged"):
            later.write(FRAMES)


def test_little_memory_holds_few_frames_back(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [None, HostMemory(1, 16 * 1024**3), HostMemory(1, 1024**3)]
    monkeypatch.setattr(later_writer, "host_memory", lambda: found.pop(0))
    assert [most_ahead_bytes() for _ in range(3)] == [MOST_AHEAD_BYTES, MOST_AHEAD_BYTES, 1024**3 // 16]
