"""Compresses conditioning frames with H.264 and decodes them: the models are trained on compressed video."""

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from longtake.media.formats import X264_DETERMINISTIC

MAX_CRF = 51
"""Largest constant rate factor of x264."""

_THREADS = 4
"""Fixed, because x264's result depends on it and a request must give equal frames on every machine."""


def compress(frames: NDArray[np.uint8], crf: int) -> NDArray[np.uint8]:
    """Returns frames [T, H, W, 3] after encoding with x264 at the constant rate factor `crf`, 0..51, and decoding.

    With 0 the frames are unchanged. All frames are one group of pictures, as in the models' training videos; single
    frames would keep more detail. Odd sizes are encoded with a copy of the last row or column.
    Raises ValueError for another `crf`.
    """
    if not 0 <= crf <= MAX_CRF:
        raise ValueError(f"crf must be in 0..{MAX_CRF}, not {crf}.")
    if crf == 0 or not len(frames):
        return frames
    _, height, width, _ = frames.shape
    even = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    encoder = single_group_encoder(even.shape[2], even.shape[1], len(frames), crf)
    decoder = av.CodecContext.create("h264", "r")
    to_yuv, to_rgb = VideoReformatter(), VideoReformatter()
    decoded = []
    for frame in [*even, None]:
        picture = None if frame is None else to_yuv.reformat(av.VideoFrame.from_ndarray(frame), format="yuv420p")
        for packet in encoder.encode(picture):
            decoded += [to_rgb.reformat(back, format="rgb24").to_ndarray() for back in decoder.decode(packet)]
    decoded += [to_rgb.reformat(back, format="rgb24").to_ndarray() for back in decoder.decode(None)]
    return np.stack(decoded)[:, :height, :width].astype(np.uint8, copy=False)


def single_group_encoder(width: int, height: int, num_frames: int, crf: int) -> av.VideoCodecContext:
    """Returns an x264 encoder that puts all `num_frames` frames, of even size, into one group of pictures."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.framerate = 24
    encoder.gop_size = num_frames
    encoder.thread_count = _THREADS
    encoder.options = {"preset": "veryfast", "crf": str(crf), "sc_threshold": "0", **X264_DETERMINISTIC}
    return encoder
