"""Compression of conditioning frames with H.264."""

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.media.crf import compress, single_group_encoder
from tests.media.files_out import moving


def loss(frames: NDArray[np.uint8], crf: int) -> float:
    return float(np.square(compress(frames, crf).astype(float) - frames).mean())


def test_crf_0_leaves_frames_unchanged() -> None:
    frames = moving(3)
    assert (compress(frames, 0) == frames).all()


def test_a_higher_crf_loses_more() -> None:
    frames = moving(9, 96, 128)
    losses = [loss(frames, crf) for crf in (1, 10, 20, 29, 35, 43, 51)]
    assert losses == sorted(losses)
    assert losses[-1] > 5 * losses[0]


def test_mean_colours_are_kept() -> None:
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
    # The order is kept: each frame is nearer to itself than to its neighbour.
    if count > 2:
        own = np.square(seen[1:].astype(float) - frames[1:]).mean()
        assert own < np.square(seen[1:].astype(float) - frames[:-1]).mean()


def test_a_clip_is_one_group_of_pictures() -> None:
    """A single frame keeps more detail than the same frame inside a clip."""
    frames = moving(9, 96, 128)
    together = compress(frames, 33)
    alone = np.concatenate([compress(frame[None], 33) for frame in frames])
    assert np.square(alone.astype(float) - frames).mean() < 0.9 * np.square(together.astype(float) - frames).mean()


def test_the_group_is_never_cut() -> None:
    """Only the first frame is a keyframe, also if the picture changes completely in the middle of a long clip."""
    cut = np.concatenate([moving(150, 32, 32), 255 - moving(150, 32, 32)[:, ::-1]])
    encoder = single_group_encoder(32, 32, len(cut), 29)
    pictures = [av.VideoFrame.from_ndarray(frame).reformat(format="yuv420p") for frame in cut]
    packets = [packet for picture in [*pictures, None] for packet in encoder.encode(picture)]
    assert [packet.is_keyframe for packet in packets] == [True] + 299 * [False]


def test_the_result_is_deterministic() -> None:
    frames = moving(12, 128, 96)
    assert len({compress(frames, 23).tobytes() for _ in range(12)}) == 1


def test_frames_that_the_decoder_does_not_return_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Losing:
        """A decoder that loses the frames that are left at its end."""

        def __init__(self) -> None:
            self.decoder = create("h264", "r")

        def decode(self, packet: av.Packet | None) -> list[av.VideoFrame]:
            return [] if packet is None else list(self.decoder.decode(packet))

    create = av.CodecContext.create
    monkeypatch.setattr(
        "longtake.media.crf.av.CodecContext.create", lambda name, mode: Losing() if mode == "r" else create(name, mode)
    )
    with pytest.raises(ValueError, match="9 frames, but only"):
        compress(moving(9), 29)


def test_many_frames_are_converted_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = moving(50, 32, 32)
    expected = compress(frames, 29)
    monkeypatch.setattr("longtake.media.crf._CONVERTED_AT_ONCE", 3)
    assert (compress(frames, 29) == expected).all()


@pytest.mark.parametrize("crf", [-1, 52])
def test_a_crf_out_of_range_is_an_error(crf: int) -> None:
    with pytest.raises(ValueError, match=r"0\.\.51"):
        compress(moving(1), crf)
