"""Frames and sound in the file, forwards and backwards; repeated progress."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from longtake.endpoints import ltxv098
from longtake.media.planes import from_rgb
from longtake.media.sound import num_samples
from longtake.media.source import open_source
from longtake.output.writer import ProgressRelay, video_writer
from longtake.video import Progress, Span, VideoInfo, ignore_progress, no_check
from tests.endpoints.planning import plan_of

COUNT, RATE = 8, Fraction(24)


def plan(*, reverse: bool = False) -> Any:
    source = VideoInfo("mp4", "h264", 64, 64, RATE, COUNT)
    made = plan_of(ltxv098.ENDPOINT, {"reverse_video": reverse, "num_frames": 9}, source)
    return replace(made, width=64, height=64, shown_frames=COUNT, new_frames=0, output="PRORES4444 (.mov)")


def greys() -> Any:
    """Frames [COUNT, 64, 64, 3], each brighter than the one before."""
    return np.repeat(np.arange(20, 20 + 20 * COUNT, 20, dtype=np.uint8), 64 * 64 * 3).reshape(COUNT, 64, 64, 3)


def written(folder: Path, chosen: Any, *, has_sound: bool = True) -> tuple[list[float], Any]:
    """Writes the greys and a rising sound; returns the file's mean brightness per frame, and its sound or None."""
    path, length = folder / "out.mov", num_samples(COUNT, RATE)
    with video_writer(path, chosen, has_sound=has_sound, progress=ProgressRelay(ignore_progress)) as writer:
        ramp = np.linspace(0, 0.5, length, dtype=np.float32)
        writer.write_sound(np.stack([ramp, ramp]))
        writer.write_source(np.stack([from_rgb(grey, "yuv444p10le") for grey in greys()[:3]]), no_check)
        writer.write(greys()[3:])
        assert not path.exists()
    with open_source(path) as file:
        frames = np.concatenate(list(file.frames(Span(0, COUNT, RATE))))
        return frames.mean(axis=(1, 2, 3)).tolist(), file.sound(Fraction(0), COUNT / RATE)


def test_frames_and_sound_are_written_in_order(tmp_path: Path) -> None:
    levels, sound = written(tmp_path, plan())
    assert levels == pytest.approx(greys().mean(axis=(1, 2, 3)).tolist(), abs=2)
    assert sound[0, -1000:].mean() > sound[0, :1000].mean() + 0.3


def test_a_reversed_video_has_frames_and_sound_backwards(tmp_path: Path) -> None:
    levels, sound = written(tmp_path, plan(reverse=True))
    assert levels == pytest.approx(greys()[::-1].mean(axis=(1, 2, 3)).tolist(), abs=2)
    assert sound[0, :1000].mean() > sound[0, -1000:].mean() + 0.3


@pytest.mark.parametrize("reverse", [False, True])
def test_sound_is_ignored_if_the_file_has_none(tmp_path: Path, reverse: bool) -> None:
    levels, sound = written(tmp_path, plan(reverse=reverse), has_sound=False)
    assert len(levels) == COUNT
    assert sound is None


def test_after_an_exception_there_is_no_file(tmp_path: Path) -> None:
    def fail() -> None:
        progress = ProgressRelay(ignore_progress)
        with video_writer(tmp_path / "a.mov", plan(), has_sound=False, progress=progress) as writer:
            writer.write(greys())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not list(tmp_path.iterdir())


def test_the_last_progress_can_be_repeated() -> None:
    reports: list[Progress] = []
    relay = ProgressRelay(reports.append)
    relay(Progress("sampling", 3, 8))
    relay.repeat()
    assert reports == [Progress("sampling", 3, 8)] * 2
