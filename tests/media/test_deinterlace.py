"""Deinterlacing: what stands still stays as it is, in the first frame too; what moves has no comb."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.media.deinterlace import deinterlaced
from longtake.media.limits import Limits
from longtake.media.probe import probe
from longtake.media.readable import readable_part
from tests.media.clips import MPEG2_INTERLACED, X264_INTERLACED, Clip

X264_BOTTOM_FIRST = (("flags", "+ildct+ilme"), ("x264-params", "bff=1:keyint=12"))


def still(_: int, width: int, height: int) -> NDArray[np.uint8]:
    """Squares of 4 x 4 pixels in random colours, the same in each frame."""
    colours = np.random.default_rng(1).integers(30, 220, (height // 4 + 1, width // 4 + 1, 3), np.uint8)
    return colours.repeat(4, axis=0).repeat(4, axis=1)[:height, :width]


def luma(frame: Any) -> NDArray[np.int16]:
    plane = frame.planes[0]
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width].astype(np.int16)


def decoded(path: Path) -> list[Any]:
    with av.open(str(path)) as media:
        return list(media.decode(video=0))


@pytest.mark.parametrize(
    "clip",
    [
        Clip("top.mp4", frames=5, options=X264_INTERLACED, picture=still),
        Clip("bottom.mp4", frames=5, options=X264_BOTTOM_FIRST, picture=still),
        Clip("one.mp4", frames=1, options=X264_INTERLACED, picture=still),
        Clip("two.mp4", frames=2, options=X264_INTERLACED, picture=still),
        Clip("odd.ts", 5, (127, 91), codec="mpeg2video", options=(*MPEG2_INTERLACED, ("b", "20000000")), picture=still),
    ],
    ids=lambda clip: clip.name,
)
def test_every_frame_of_a_still_picture_is_unchanged(tmp_path: Path, clip: Clip) -> None:
    stored = decoded(clip.write(tmp_path))
    shown = list(deinterlaced(iter(stored)))
    assert stored[0].interlaced_frame
    assert [frame.pts for frame in shown] == [frame.pts for frame in stored]
    for before, after in zip(stored, shown, strict=True):
        assert (np.abs(luma(before) - luma(after)) > 8).mean() < 0.005


def test_a_still_picture_is_unchanged_in_the_shared_file(shared: Path) -> None:
    path = shared / "cases" / "own" / "07_interlaced_flag.mp4"
    if not path.exists():
        pytest.skip(f"{path.name} is not in the shared folder")
    stored = decoded(path)
    for before, after in zip(stored, deinterlaced(iter(stored)), strict=True):
        assert (np.abs(luma(before) - luma(after)) > 4).sum() < 16


def test_frames_of_another_size_follow(tmp_path: Path) -> None:
    small = decoded(Clip("small.mp4", frames=3, options=X264_INTERLACED, picture=still).write(tmp_path))
    large = decoded(Clip("large.mp4", 3, (160, 128), options=X264_INTERLACED, picture=still).write(tmp_path))
    shown = list(deinterlaced(iter([*small, *large])))
    assert [(frame.width, frame.height) for frame in shown] == [(128, 96)] * 3 + [(160, 128)] * 3


def test_a_video_that_begins_with_progressive_frames_is_deinterlaced(tmp_path: Path) -> None:
    options = (("g", "6"), ("b", "3000000"))
    plain = Clip("plain.ts", 12, rate=Fraction(25), codec="mpeg2video", options=options, picture=still)
    fields = Clip("fields.ts", 12, rate=Fraction(25), codec="mpeg2video", options=MPEG2_INTERLACED, picture=still)
    path = tmp_path / "both.ts"
    with av.open(str(path), "w") as both:
        stream: Any = None
        for begin, clip in ((0, plain), (12, fields)):
            with av.open(str(clip.write(tmp_path))) as media:
                stream = stream or both.add_stream_from_template(media.streams.video[0])
                packets = [packet for packet in media.demux(video=0) if packet.size]
                first = min(packet.dts for packet in packets)
                for packet in packets:
                    packet.pts += begin * 3600 - first
                    packet.dts += begin * 3600 - first
                    packet.stream = stream
                    both.mux(packet)
    video = probe(path, "mpegts", Limits())
    assert not video.picture.interlaced
    assert readable_part(video).picture.interlaced
