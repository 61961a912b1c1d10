"""Writes MP4, WebM and MOV files with BT.709 colours, an exact frame rate, and interleaved video and sound."""

import contextlib
from collections import deque
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from longtake.media.formats import OutputFormat, SoundFormat
from longtake.media.planes import Planes, tag_bt709, unpacked
from longtake.media.sound import num_samples
from longtake.video import Check


class MovieWriter:
    """Writes frames, and stereo sound if `with_sound` is True, to the new file `path`.

    The frames are arrays in the format `output_format.frame_format`, with `width` x `height` pixels and `rate` frames
    per second. The sound is float32 samples [2, n] at the sample rate of `output_format.sound`. If that is None, sound
    is ignored. `comment` is a text that is stored in the file; empty for none.

    Samples wait in this object until the frames that they belong to are encoded. Encoded frames wait in the muxer until
    their sound is written. `finish` makes both tracks equally long by adding silence or dropping samples.
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
        comment: str = "",
    ) -> None:
        self._path = path
        self._rate = rate
        # With 0 the muxer waits without limit for the packets of the other track, instead of 10 s.
        options = {**output_format.container_options, "max_interleave_delta": "0"}
        self._file = av.open(str(path.absolute()), "w", format=output_format.container, container_options=options)
        if comment:
            self._file.metadata["comment"] = comment
        self._picture = self._file.add_stream(output_format.codec, rate=rate, options=dict(output_format.options))
        self._picture.width, self._picture.height = width, height
        self._picture.pix_fmt = output_format.pix_fmt
        context = self._picture.codec_context
        context.time_base = 1 / rate
        context.thread_count = 0
        if output_format.keyframe_s is not None:
            context.gop_size = max(1, round(output_format.keyframe_s * rate))
        tag_bt709(context)
        self._sound = _add_sound(self._file, output_format.sound) if with_sound and output_format.sound else None
        self._frame_format = output_format.frame_format
        self._num_frames = 0
        self._pending: deque[NDArray[np.float32]] = deque()
        self._samples_encoded = 0

    def add_frame(self, planes: Planes) -> None:
        """Encodes one frame, an array in the output's `frame_format`, and the waiting sound that belongs to it."""
        picture = unpacked(planes, self._frame_format)
        picture.pts, picture.time_base = self._num_frames, 1 / self._rate
        self._num_frames += 1
        self._file.mux(self._picture.encode(picture))
        self._encode_sound()

    def add_sound(self, samples: NDArray[np.float32]) -> None:
        if self._sound is not None and samples.shape[1]:
            self._pending.append(samples)
            self._encode_sound()

    def finish(self, check: Check) -> None:
        """Completes the file: makes the sound as long as the frames, and writes the packets still in the encoders.

        `check` is called before each remaining packet of the video, and can cancel by raising an exception.
        """
        if self._sound is not None:
            self._pending.append(np.zeros((2, max(0, self._samples_due() - self._num_pending())), np.float32))
            self._encode_sound()
            self._file.mux(self._sound.encode(None))
        for packet in self._picture.codec_context.encode_lazy(None):
            check()
            packet.stream = self._picture
            self._file.mux(packet)
        self._file.close()

    def discard(self) -> None:
        """Closes and deletes the unfinished file."""
        # The file is deleted before it is closed, because closing moves the index of a long file to its front first.
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(av.FFmpegError):
            self._file.close()

    def _samples_due(self) -> int:
        """Returns how many more samples must be encoded to reach the end of the last encoded frame; 0 without sound."""
        if self._sound is None:
            return 0
        return num_samples(self._num_frames, self._rate, self._sound.rate) - self._samples_encoded

    def _num_pending(self) -> int:
        return sum(block.shape[1] for block in self._pending)

    def _encode_sound(self) -> None:
        while self._sound is not None and self._pending and (due := self._samples_due()) > 0:
            block = self._pending.popleft()
            if block.shape[1] > due:
                self._pending.appendleft(block[:, due:])
                block = block[:, :due]
            samples = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout="stereo")
            samples.sample_rate = self._sound.rate
            samples.pts, samples.time_base = self._samples_encoded, Fraction(1, self._sound.rate)
            self._samples_encoded += block.shape[1]
            self._file.mux(self._sound.encode(samples))


def _add_sound(file: Any, sound: SoundFormat) -> Any:
    stream = file.add_stream(sound.codec, rate=sound.rate, options=dict(sound.options))
    stream.layout = "stereo"
    stream.format = sound.sample_format
    if sound.bit_rate is not None:
        stream.bit_rate = sound.bit_rate
    return stream
