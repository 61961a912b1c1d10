"""One file of pictures and sound, written by one thread: BT.709 colour, exact frame rate, interleaved packets."""

import contextlib
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from longtake.media.formats import OutputFormat, SoundFormat
from longtake.media.sound import num_samples

Frame = NDArray[np.uint8] | NDArray[np.uint16]

Check = Callable[[], None]

_BT709 = 1
_LIMITED = 1


class MovieWriter:
    """Writes frames [H, W, 3] and, with `with_sound`, samples [2, n] at the output_format's rate to a new file.

    The sound is given to its codec as far as the pictures have come, so early samples wait here; late ones make
    the encoded pictures wait in the muxer. `finish` makes both end together: it adds silence or drops samples.
    """

    def __init__(
        self,
        path: Path,
        output_format: OutputFormat,
        width: int,
        height: int,
        rate: Fraction,
        *,
        with_sound: bool = False,
    ) -> None:
        self._path = path
        self._rate = rate
        # 0: hold packets for as long as the other track has none, instead of 10 s.
        options = {**output_format.container_options, "max_interleave_delta": "0"}
        self._file = av.open(str(path.absolute()), "w", format=output_format.container, container_options=options)
        self._picture = self._file.add_stream(output_format.codec, rate=rate, options=dict(output_format.options))
        self._picture.width, self._picture.height = width, height
        self._picture.pix_fmt = output_format.pix_fmt
        context = self._picture.codec_context
        context.time_base = 1 / rate
        context.thread_count = 0
        if output_format.keyframe_s is not None:
            context.gop_size = max(1, round(output_format.keyframe_s * rate))
        _tag_bt709(context)
        self._sound = _add_sound(self._file, output_format.sound) if with_sound and output_format.sound else None
        self._reformatter = VideoReformatter()
        self._num_frames = 0
        self._waiting: deque[NDArray[np.float32]] = deque()
        self._samples_given = 0

    def add_frame(self, frame: Frame) -> None:
        """Encode one picture, uint8 or full-range uint16 RGB."""
        picture = self._convert(frame)
        picture.pts, picture.time_base = self._num_frames, 1 / self._rate
        self._num_frames += 1
        self._file.mux(self._picture.encode(picture))
        self._give_sound()

    def add_sound(self, samples: NDArray[np.float32]) -> None:
        if self._sound is not None and samples.shape[1]:
            self._waiting.append(samples)
            self._give_sound()

    def finish(self, check: Check) -> None:
        """Complete the file; `check` may stop that by raising."""
        if self._sound is not None:
            self._waiting.append(np.zeros((2, max(0, self._samples_due() - self._num_waiting())), np.float32))
            self._give_sound()
            self._file.mux(self._sound.encode(None))
        for packet in self._picture.codec_context.encode_lazy(None):
            check()
            packet.stream = self._picture
            self._file.mux(packet)
        self._file.close()

    def discard(self) -> None:
        """Leave nothing. Without its file the muxer cannot spend time on moving the index to the front."""
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(av.FFmpegError):
            self._file.close()

    def _convert(self, frame: Frame) -> Any:
        if frame.dtype == np.uint16:
            # swscale takes 255 * 256 for white, not 65535.
            source = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(frame - (frame >> 8)), format="rgb48le")
        else:
            source = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(frame), format="rgb24")
        picture = self._reformatter.reformat(
            source,
            format=self._picture.pix_fmt,
            src_color_range=ColorRange.JPEG,
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP,
        )
        _tag_bt709(picture)
        return picture

    def _samples_due(self) -> int:
        """Samples that belong beside the pictures so far and are not yet given to the codec."""
        if self._sound is None:
            return 0
        return num_samples(self._num_frames, self._rate, self._sound.rate) - self._samples_given

    def _num_waiting(self) -> int:
        return sum(block.shape[1] for block in self._waiting)

    def _give_sound(self) -> None:
        while self._sound is not None and self._waiting and (due := self._samples_due()) > 0:
            block = self._waiting.popleft()
            if block.shape[1] > due:
                self._waiting.appendleft(block[:, due:])
                block = block[:, :due]
            samples = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout="stereo")
            samples.sample_rate = self._sound.rate
            samples.pts, samples.time_base = self._samples_given, Fraction(1, self._sound.rate)
            self._samples_given += block.shape[1]
            self._file.mux(self._sound.encode(samples))


def _tag_bt709(thing: Any) -> None:
    """Say what the numbers mean: codec and frames both, for ProRes reads only the frames."""
    thing.color_range = _LIMITED
    thing.colorspace = thing.color_primaries = thing.color_trc = _BT709


def _add_sound(file: Any, output_format: SoundFormat) -> Any:
    stream = file.add_stream(output_format.codec, rate=output_format.rate)
    stream.layout = "stereo"
    stream.format = output_format.sample_format
    if output_format.bit_rate is not None:
        stream.bit_rate = output_format.bit_rate
    return stream
