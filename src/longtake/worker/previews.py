"""Sends previews of a request's new frames to the server while they are sampled."""

import io
import logging
import time
from contextlib import suppress
from threading import Thread

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from longtake.sampling.preview import Preview
from longtake.threads import start
from longtake.worker.channel import RequestChannel
from longtake.worker.messages import Previewed

log = logging.getLogger(__name__)

PAUSE_S = 0.5
"""The shortest time in seconds between two previews of a request."""

MOST_SHARE = 0.02
"""The largest share (0..1) of the sampling time that may be spent on previews."""

QUALITY = 60
"""The quality of a preview's pictures, 0..100."""


class PreviewSender:
    """Receives the previews of one request, and sends them to the server.

    - Previews are made only while clients ask for them (see `RequestChannel.is_watched`).
    - Two previews are at least half a second (PAUSE_S) apart. After a preview that took more than 10 ms the pause is
      longer, so that previews take at most 2 % (MOST_SHARE) of the time.
    - The pictures are encoded in a thread. Meanwhile no other preview is made. If the system allows no more threads,
      the preview is left out.

    `channel`: the request's connection to the server.

    The end of the `with` block waits for the thread.
    """

    def __init__(self, channel: RequestChannel) -> None:
        self._channel = channel
        self._next_at = 0.0
        self._encoder: Thread | None = None

    def __enter__(self) -> "PreviewSender":
        return self

    def __exit__(self, *_: object) -> None:
        if self._encoder is not None:
            self._encoder.join()

    def is_due(self) -> bool:
        """Returns True if a preview of the request should be made and passed to `show` now."""
        is_busy = self._encoder is not None and self._encoder.is_alive()
        return not is_busy and time.monotonic() >= self._next_at and self._channel.is_watched()

    def show(self, preview: Preview, cost_s: float) -> None:
        """Encodes and sends a preview in a thread.

        `cost_s`: the seconds by which making the preview has delayed the sampling. The more, the longer is the pause
            before the next preview.
        """
        self._pause(cost_s)
        encoder = Thread(target=self._send, args=(preview, cost_s), name="preview", daemon=True)
        with suppress(OSError):
            start(encoder)
            self._encoder = encoder

    def _pause(self, cost_s: float) -> None:
        self._next_at = time.monotonic() + max(PAUSE_S, cost_s / MOST_SHARE)

    def _send(self, preview: Preview, cost_s: float) -> None:
        started = time.thread_time()
        try:
            picture = animated_webp(preview)
            # The thread may use a processor that the model would have used.
            self._pause(cost_s + time.thread_time() - started)
            self._channel.send(Previewed(picture, preview.step, preview.steps, preview.window, preview.windows))
        except Exception:
            log.exception("A preview of request %s could not be sent.", self._channel.request_id)


def animated_webp(preview: Preview) -> bytes:
    """Returns a preview's pictures as an animated WebP that repeats without end.

    Each picture is encoded by itself, which takes half as long as Pillow's encoder for animations.
    """
    height, width = preview.pictures.shape[1:3]
    size = _number(width - 1, 3) + _number(height - 1, 3)
    shown = _number(round(preview.picture_s * 1000), 3)
    pictures = (_chunk(b"ANMF", bytes(6) + size + shown + b"\2" + _picture(one)) for one in preview.pictures)
    header = _chunk(b"VP8X", _number(2, 4) + size)  # 2: it is an animation
    return _chunk(b"RIFF", b"WEBP" + header + _chunk(b"ANIM", bytes(6)) + b"".join(pictures))


def _picture(pixels: NDArray[np.uint8]) -> bytes:
    """Returns a picture [h, w, 3] as the part of a WebP file that has its pixels."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=QUALITY, method=0)
    return buffer.getvalue()[12:]  # without the head of the file


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + _number(len(content), 4) + content + bytes(len(content) % 2)


def _number(value: int, length: int) -> bytes:
    return value.to_bytes(length, "little")
