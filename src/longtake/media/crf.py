"""Adds traces of H.264 compression to the frames that a model receives, because models are trained on such frames."""

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from longtake.media.formats import X264_DETERMINISTIC
from longtake.media.planes import EXACT

MAX_CRF = 51
"""Largest constant rate factor of x264 (most compression)."""

_THREADS = 4
"""Number of x264's threads. It is fixed, because the output depends on it and must be the same on all machines."""


def compress(frames: NDArray[np.uint8], crf: int) -> NDArray[np.uint8]:
    """Returns the RGB frames [T, H, W, 3] as they look after compression: encoded with x264 and decoded again.

    `crf` is the constant rate factor, from 0 (the frames are returned unchanged) to 51 (the most compression). Raises
    ValueError if it is outside this range.

    All frames are encoded as one video with a single keyframe, as in the models' training videos. Frames that are
    encoded one by one would lose less detail. Frames of an odd size are padded for encoding and cropped afterwards.
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
            decoded += decoder.decode(packet)
    decoded += decoder.decode(None)
    pictures = [to_rgb.reformat(back, format="gbrp", interpolation=Interpolation.BICUBIC | EXACT) for back in decoded]
    return np.stack([picture.to_ndarray() for picture in pictures])[:, :height, :width].astype(np.uint8, copy=False)


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
