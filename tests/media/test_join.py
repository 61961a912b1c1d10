"""The joint's colours, and frames read backwards."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.media.join import ReversedFrames, match_colour
from tests.media.files_out import moving

CAST = np.array([0.03, -0.02, 0.01], np.float32)


def shades(num_frames: int) -> NDArray[np.float32]:
    return (moving(num_frames) / 255).astype(np.float32)


def test_the_cast_is_gone_at_the_joint_and_fades() -> None:
    """Truth and decoded differ by a cast; the first frame has the truth's colour, the last its own, none jumps."""
    truth = shades(21).clip(0.1, 0.9)
    decoded = truth + CAST
    matched = match_colour(decoded[1:], truth[0], decoded[0], 10)
    left = (matched - truth[1:]).mean(axis=(1, 2))
    assert left == pytest.approx(np.outer(np.minimum(np.arange(20) / 10, 1), CAST), abs=1e-5)
    assert (matched[10:] == decoded[11:]).all()
    assert (matched[9] != decoded[10]).any()


def test_chunks_are_matched_as_the_whole_is() -> None:
    new, kept, seen = shades(24), shades(1)[0], shades(1)[0] / 2 + 0.25
    whole = match_colour(new, kept, seen, 16)
    parts = [match_colour(new[at : at + 5], kept, seen, 16, first=at) for at in range(0, 24, 5)]
    assert (np.concatenate(parts) == whole).all()


def test_a_faithful_model_is_left_alone() -> None:
    new = shades(5)
    assert (match_colour(new, new[0], new[0], 8) == new).all()


def test_values_stay_in_range_and_the_given_frames_as_they_were() -> None:
    new = np.full((3, 8, 8, 3), 0.9, np.float32)
    kept, seen = np.full((8, 8, 3), 0.8, np.float32), np.full((8, 8, 3), 0.4, np.float32)
    assert match_colour(new, kept, seen, 2)[:, 0, 0, 0].tolist() == pytest.approx([1, 1, 0.9])
    assert (new == np.float32(0.9)).all()


@pytest.mark.parametrize("size", [1, 7, 30, 100])
def test_backwards_is_the_reverse(size: int, tmp_path: Path) -> None:
    frames = moving(30, 20, 34)
    with ReversedFrames(tmp_path, 20, 34) as spool:
        for start in range(0, 30, 8):
            spool.write(frames[start : start + 8])
        chunks = list(spool.chunks(size))
        assert spool.num_frames == 30
    assert max(len(chunk) for chunk in chunks) == min(size, 30)
    assert (np.concatenate(chunks) == frames[::-1]).all()
    assert list(tmp_path.iterdir()) == []


def test_sixteen_bits_go_through(tmp_path: Path) -> None:
    frames = moving(5).astype(np.uint16) * 257
    with ReversedFrames(tmp_path, 64, 64, np.uint16) as spool:
        spool.write(frames)
        assert (np.concatenate(list(spool.chunks(2))) == frames[::-1]).all()
        with pytest.raises(ValueError, match="uint16"):
            spool.write(moving(1))


def test_the_spool_holds_nothing_in_memory(tmp_path: Path) -> None:
    chunk = moving(8, 120, 160)
    tracemalloc.start()
    with ReversedFrames(tmp_path, 120, 160) as spool:
        for _ in range(20):
            spool.write(chunk)
        for _ in spool.chunks(8):
            pass
        _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * chunk.nbytes
