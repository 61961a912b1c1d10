"""Frames that wait for the encoder, so that the device which makes them need not."""

import threading
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from longtake.media import encode as encoding
from longtake.media.encode import Encoder
from longtake.media.formats import PixelFormat, output_format
from longtake.media.planes import Planes, RGBPicture, from_rgb
from tests.media.files_out import read


def test_chunks_wait_for_the_encoder_up_to_a_number_of_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_encode, chunk = threading.Event(), np.zeros((2, 64, 64, 3), np.uint8)

    def convert(picture: RGBPicture, frame_format: PixelFormat) -> Planes:
        may_encode.wait()
        return from_rgb(picture, frame_format)

    monkeypatch.setattr(encoding, "from_rgb", convert)
    with Encoder(
        tmp_path / "a",
        output_format("X264 (.mp4)", "medium", "fast"),
        64,
        64,
        Fraction(24),
        sound_rate=None,
        ahead_bytes=3 * chunk.nbytes,
    ) as file:
        for _ in range(4):  # one that is being encoded, and three that wait
            file.write(chunk)
        blocked = threading.Thread(target=file.write, args=(chunk,))
        blocked.start()
        blocked.join(0.2)
        assert blocked.is_alive()
        may_encode.set()
        blocked.join()
    assert len(read(tmp_path / "a").frames) == 10
