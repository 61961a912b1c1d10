"""Frames that are written forwards and read backwards."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from longtake.media.reversed_frames import ReversedFrames
from tests.media.files_out import moving


@pytest.mark.parametrize("size", [1, 7, 30, 100])
def test_frames_come_back_in_reverse(size: int, tmp_path: Path) -> None:
    frames = moving(30, 20, 34)
    with ReversedFrames(tmp_path, (20, 34, 3), np.uint8) as spool:
        for start in range(0, 30, 8):
            spool.write(frames[start : start + 8])
        chunks = list(spool.chunks(size))
        assert spool.num_frames == 30
    assert max(len(chunk) for chunk in chunks) == min(size, 30)
    assert (np.concatenate(chunks) == frames[::-1]).all()
    assert list(tmp_path.iterdir()) == []


def test_16_bit_frames(tmp_path: Path) -> None:
    frames = moving(5).astype(np.uint16) * 257
    with ReversedFrames(tmp_path, (64, 64, 3), np.uint16) as spool:
        spool.write(frames)
        assert (np.concatenate(list(spool.chunks(2))) == frames[::-1]).all()
        with pytest.raises(ValueError, match="uint16"):
            spool.write(moving(1))


def test_frames_are_not_held_in_memory(tmp_path: Path) -> None:
    chunk = moving(8, 120, 160)
    tracemalloc.start()
    with ReversedFrames(tmp_path, (120, 160, 3), np.uint8) as spool:
        for _ in range(20):
            spool.write(chunk)
        for _ in spool.chunks(8):
            pass
        _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * chunk.nbytes
