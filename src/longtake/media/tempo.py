"""Changes the tempo of sound but not its pitch, for a video that is played at another frame rate."""

import math
from fractions import Fraction

import av
import numpy as np

from longtake.media.formats import SOUND_RATE
from longtake.media.sound import Samples, fit_length
from longtake.video import Check, no_check

_BLOCK = 65_536


def stretch(samples: Samples, speed: Fraction, length: int, check: Check = no_check) -> Samples:
    """Returns the sound [2, length] played `speed` times as fast, at the same pitch.

    samples: the sound at 48 kHz, [2, n].
    speed: a factor above 0.
    length: the number of samples of the result. FFmpeg's `atempo` filter (WSOLA) misses the ideal length by up to a few
        hundred samples, so the result is cut, or padded with silence.
    check: called about once for each second of sound. It may raise an exception to end the work.
    """
    if speed == 1:
        return fit_length(samples, length)
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=SOUND_RATE, format="fltp", layout="stereo")
    sink = graph.add("abuffersink")
    steps = [graph.add("atempo", f"{factor:.9f}") for factor in tempo_factors(speed)]
    graph.link_nodes(source, *steps, graph.add("aformat", "sample_fmts=fltp"), sink).configure()
    for start in range(0, samples.shape[1], _BLOCK):
        check()
        block = np.ascontiguousarray(samples[:, start : start + _BLOCK])
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, start, Fraction(1, SOUND_RATE)
        source.push(frame)
    source.push(None)
    pieces = []
    while True:
        check()
        try:
            pieces.append(sink.pull().to_ndarray())
        except (av.error.EOFError, av.error.BlockingIOError):
            return fit_length(np.concatenate([samples[:, :0], *pieces], axis=1), length)


def tempo_factors(speed: Fraction) -> list[float]:
    """Returns the factors for a chain of `atempo` filters that makes sound `speed` times as fast.

    They are equal, and their product is `speed`. Each is in 0.5..2, because a filter with a larger one skips samples.
    """
    count = max(1, math.ceil(abs(math.log2(speed)) - 1e-9))
    return [float(speed) ** (1 / count)] * count
