"""The H.264 round trip of conditioning frames."""

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.media.crf import _encoder, compress
from tests.media.files_out import moving


def loss(frames: NDArray[np.uint8], crf: int) -> float:
    return float(np.square(compress(frames, crf).astype(float) - frames).mean())


def test_zero_is_untouched() -> None:
    frames = moving(3)
    assert (compress(frames, 0) == frames).all()


def test_higher_loses_more() -> None:
    frames = moving(9, 96, 128)
    losses = [loss(frames, crf) for crf in (1, 10, 20, 29, 35, 43, 51)]
    assert losses == sorted(losses)
    assert losses[-1] > 5 * losses[0]


def test_colour_stays() -> None:
    frames = moving(9, 96, 128)
    shift = compress(frames, 29).mean(axis=(0, 1, 2)) - frames.mean(axis=(0, 1, 2))
    assert np.abs(shift).max() < 2


@pytest.mark.parametrize(("count", "height", "width"), [(1, 64, 64), (25, 63, 65), (2, 17, 30), (9, 33, 32)])
def test_any_size_and_count(count: int, height: int, width: int) -> None:
    frames = moving(count, height, width)
    seen = compress(frames, 29)
    assert seen.shape == frames.shape
    assert seen.dtype == np.uint8
    assert np.abs(seen.astype(int) - frames).mean() < 12
    # Each frame comes back at its own place: it is nearer to itself than to its neighbour.
    if count > 2:
        own = np.square(seen[1:].astype(float) - frames[1:]).mean()
        assert own < np.square(seen[1:].astype(float) - frames[:-1]).mean()


def test_a_clip_is_one_group_of_pictures() -> None:
    """The choice: frames lean on each other. A frame alone keeps more than the same frame inside a clip."""
    frames = moving(9, 96, 128)
    together = compress(frames, 33)
    alone = np.concatenate([compress(frame[None], 33) for frame in frames])
    assert np.square(alone.astype(float) - frames).mean() < 0.9 * np.square(together.astype(float) - frames).mean()


def test_the_group_is_never_cut() -> None:
    """One keyframe, the first, though the picture changes altogether in the middle of a long clip."""
    cut = np.concatenate([moving(150, 32, 32), 255 - moving(150, 32, 32)[:, ::-1]])
    encoder = _encoder(32, 32, len(cut), 29)
    pictures = [av.VideoFrame.from_ndarray(frame).reformat(format="yuv420p") for frame in cut]
    packets = [packet for picture in [*pictures, None] for packet in encoder.encode(picture)]
    assert [packet.is_keyframe for packet in packets] == [True] + 299 * [False]


def test_the_same_every_time() -> None:
    """The model sees these frames: were they different in two runs, so would be the video."""
    frames = moving(12, 128, 96)
    assert len({compress(frames, crf).tobytes() for crf in (23,) for _ in range(12)}) == 1


@pytest.mark.parametrize("crf", [-1, 52])
def test_out_of_range(crf: int) -> None:
    with pytest.raises(ValueError, match=r"0\.\.51"):
        compress(moving(1), crf)
