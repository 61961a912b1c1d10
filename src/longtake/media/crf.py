"""Conditioning frames through H.264 and back: models trained on compressed video expect its traces."""

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from longtake.media.formats import X264_SAME_BITS

MAX_CRF = 51

_THREADS = 4
"""Fixed, for x264's result depends on it, and the same request must see the same frames on every machine."""


def compress(frames: NDArray[np.uint8], crf: int) -> NDArray[np.uint8]:
    """Frames [T, H, W, 3] as they look after x264 at constant rate factor `crf`, 0..51; 0 gives them back untouched.

    The clip is one group of pictures, as in the videos that the models learned from; frames alone would keep more
    detail. Preset `veryfast`, 4:2:0, in BT.601 both ways. Odd sizes are coded with the last row or column twice.
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
    seen = []
    for frame in [*even, None]:
        picture = None if frame is None else to_yuv.reformat(av.VideoFrame.from_ndarray(frame), format="yuv420p")
        for packet in encoder.encode(picture):
            seen += [to_rgb.reformat(back, format="rgb24").to_ndarray() for back in decoder.decode(packet)]
    seen += [to_rgb.reformat(back, format="rgb24").to_ndarray() for back in decoder.decode(None)]
    return np.stack(seen)[:, :height, :width].astype(np.uint8, copy=False)


def single_group_encoder(width: int, height: int, num_frames: int, crf: int) -> av.VideoCodecContext:
    """Returns an x264 encoder that puts all `num_frames` frames, of even size, into one group of pictures."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.framerate = 24
    encoder.gop_size = num_frames
    encoder.thread_count = _THREADS
    encoder.options = {"preset": "veryfast", "crf": str(crf), "sc_threshold": "0", **X264_SAME_BITS}
    return encoder
