"""Adds traces of H.264 compression to the frames that a model receives, because models are trained on such frames."""

from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from itertools import chain, islice

import av
import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from longtake.media.formats import X264_DETERMINISTIC
from longtake.media.planes import EXACT
from longtake.threads import Pool

MAX_CRF = 51
"""Largest constant rate factor of x264 (most compression)."""

_THREADS = 4
"""The number of x264's threads. It is fixed, because x264's output depends on it and must be the same on all machines.
The decoder has as many."""

_CONVERTING_THREADS = 8
"""The number of threads that convert colours. The result does not depend on it."""

_CONVERTED_AT_ONCE = 16
"""The largest number of frames whose colours wait to be converted, or are converted and wait to be encoded; and of
decoded frames that wait to be stored. It limits the memory for them."""


def compress(frames: NDArray[np.uint8], crf: int) -> NDArray[np.uint8]:
    """Returns the RGB frames [T, H, W, 3] as they look after compression: encoded with x264 and decoded again.

    `crf` is the constant rate factor, from 0 (the frames are returned unchanged) to 51 (the most compression). Raises
    ValueError if it is outside this range, or if the decoder does not return all frames.
    """
    if not 0 <= crf <= MAX_CRF:
        raise ValueError(f"crf must be in 0..{MAX_CRF}, not {crf}.")
    return compress_arriving(frames, frames.shape, crf) if crf and len(frames) else frames


def compress_arriving(frames: Iterable[NDArray[np.uint8]], shape: Sequence[int], crf: int) -> NDArray[np.uint8]:
    """Returns RGB frames [T, H, W, 3] as they look after compression. The compression begins with the first frame.

    All frames are encoded as one video with a single keyframe, as in the models' training videos. Frames that are
    encoded one by one would lose less detail. Frames of an odd size are padded for encoding and cropped afterwards.

    frames: the frames, [H, W, 3] each; no more than T are taken from it.
    shape: [T, H, W, 3], with a T of at least 1.
    crf: x264's constant rate factor, 1..51.

    Raises ValueError if the decoder does not return all frames.
    """
    count, height, width, _ = shape
    padding = ((0, height % 2), (0, width % 2), (0, 0))
    encoder = single_group_encoder(width + width % 2, height + height % 2, count, crf)
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = _THREADS
    compressed = np.empty(shape, np.uint8)

    def planar(frame: NDArray[np.uint8]) -> av.VideoFrame:
        even = np.pad(frame, padding, mode="edge") if height % 2 or width % 2 else frame
        return av.VideoFrame.from_ndarray(even).reformat(format="yuv420p")

    def store(number: int, back: av.VideoFrame) -> None:
        picture = back.reformat(format="gbrp", interpolation=Interpolation.BICUBIC | EXACT).to_ndarray()
        compressed[number] = picture[:height, :width]

    # Colours are converted in threads, because that takes longer than x264. Meanwhile other frames are encoded and
    # decoded in order.
    stored: list[Future[None]] = []
    converted: deque[Future[av.VideoFrame]] = deque()
    with Pool(_CONVERTING_THREADS) as pool:

        def decode(packets: Iterable[av.Packet | None]) -> None:
            for back in chain.from_iterable(map(decoder.decode, packets)):
                if len(stored) < count:
                    stored.append(pool.submit(store, len(stored), back))
                    stored[max(0, len(stored) - _CONVERTED_AT_ONCE)].result()

        for frame in islice(frames, count):
            converted.append(pool.submit(planar, frame))
            if len(converted) == _CONVERTED_AT_ONCE:
                decode(encoder.encode(converted.popleft().result()))
        while converted:
            decode(encoder.encode(converted.popleft().result()))
        decode([*encoder.encode(None), None])
    for task in stored:
        task.result()
    if len(stored) != count:
        raise ValueError(f"x264 has encoded {count} frames, but only {len(stored)} could be decoded again.")
    return compressed


def single_group_encoder(width: int, height: int, num_frames: int, crf: int) -> av.VideoCodecContext:
    """Returns an x264 encoder that puts all `num_frames` frames into one group of pictures.

    `width` and `height` are in pixels and must be even. `crf` is x264's constant rate factor, 0..51.
    """
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.framerate = 24
    encoder.gop_size = num_frames
    encoder.thread_count = _THREADS
    encoder.options = {"preset": "veryfast", "crf": str(crf), "sc_threshold": "0", **X264_DETERMINISTIC}
    return encoder
