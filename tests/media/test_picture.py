"""Conversion of frames to pictures: rotation, pixel aspect, colours, alpha, deinterlacing."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.media.frame_reader import frames
from longtake.media.limits import Limits
from longtake.media.picture import HDR_NOTE, TRANSPARENT_NOTE
from longtake.media.probe import ProbedVideo, probe
from longtake.media.sniff import sniff
from longtake.media.source import open_source
from longtake.video import Span
from tests.media.clips import X264_INTERLACED, Clip, corners, flat, number_of, numbered

pytestmark = pytest.mark.usefixtures("forked_decoders")

BT709 = (1, 1, 1, 1)
BT601 = (6, 1, 6, 6)


def opened(clip: Clip, folder: Path) -> ProbedVideo:
    path = clip.write(folder)
    return probe(path, sniff(path), Limits())


def pictures(video: ProbedVideo, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    return np.concatenate(list(frames(video, Span(0, video.facts.num_frames, video.facts.rate), size, 16)))


@pytest.mark.parametrize(
    ("rotation", "hflip", "turned", "mirrored", "seen"),
    [
        (None, False, 0, False, "RGBW"),
        (-90, False, 90, False, "BRWG"),
        (180, False, 180, False, "WBGR"),
        (90, False, 270, False, "GWRB"),
        (0, True, 0, True, "GRWB"),
        (-90, True, 270, True, "RBGW"),
        (180, True, 180, True, "BWRG"),
        (90, True, 90, True, "WGBR"),
    ],
)
def test_rotation_and_mirror(
    tmp_path: Path, rotation: int | None, hflip: bool, turned: int, mirrored: bool, seen: str
) -> None:
    plain = opened(Clip("plain.mp4", frames=2), tmp_path)
    video = opened(Clip("turned.mp4", frames=2, rotation=rotation, hflip=hflip), tmp_path)
    shown, stored = pictures(video), pictures(plain)
    assert corners(shown[0]) == seen
    assert (video.facts.width, video.facts.height) == ((96, 128) if turned in (90, 270) else (128, 96))
    unmirrored = stored[:, :, ::-1] if mirrored else stored
    np.testing.assert_array_equal(shown, np.rot90(unmirrored, -turned // 90, axes=(1, 2)))


@pytest.mark.parametrize(
    ("aspect", "rotation", "size"),
    [(Fraction(16, 11), None, (186, 96)), (Fraction(8, 9), None, (128, 108)), (Fraction(2), 90, (96, 256))],
)
def test_pixels_become_square(tmp_path: Path, aspect: Fraction, rotation: int | None, size: tuple[int, int]) -> None:
    video = opened(Clip("wide.mp4", frames=1, pixel_aspect=aspect, rotation=rotation), tmp_path)
    assert (video.facts.width, video.facts.height) == size
    assert pictures(video).shape[1:3] == size[::-1]


def test_absurd_pixel_aspect_is_ignored(tmp_path: Path) -> None:
    video = opened(Clip("absurd.mp4", frames=1, pixel_aspect=Fraction(1000, 1)), tmp_path)
    assert (video.facts.width, video.facts.height) == (128, 96)


@pytest.mark.parametrize(("size", "seen"), [((128, 96), "RGBW"), ((64, 48), "RGBW"), ((192, 144), "RGBW")])
def test_size_of_the_same_shape_keeps_the_corners(tmp_path: Path, size: tuple[int, int], seen: str) -> None:
    shown = pictures(opened(Clip("clip.mp4", frames=2), tmp_path), size)
    assert shown.shape == (2, size[1], size[0], 3)
    assert corners(shown[0]) == seen
    assert [number_of(picture) for picture in shown] == [0, 1]


def test_another_shape_covers_and_crops_the_centre(tmp_path: Path) -> None:
    video = opened(Clip("clip.mp4", frames=1, options=(("crf", "1"),)), tmp_path)
    full = pictures(video)[0]
    np.testing.assert_array_equal(pictures(video, (80, 96))[0], full[:, 24:104])
    np.testing.assert_array_equal(pictures(video, (128, 32))[0], full[32:64])


@pytest.mark.parametrize(
    ("codec", "matrix", "height", "tags"),
    [
        ("libx264", "ITU709", 96, (1, 1, 1, 1)),
        ("libx264", "ITU601", 96, (6, 1, 1, 6)),
        ("libx264", "ITU601", 720, (5, 1, 1, 6)),
        ("libx264", "ITU709", 96, (1, 2, 1, 1)),
        ("libvpx-vp9", "ITU601", 96, (6, 2, 1, 6)),
        ("libx264", "ITU601", 96, None),
        ("libx264", "ITU709", 720, None),
    ],
)
@pytest.mark.parametrize("color", [(200, 40, 40), (40, 200, 40), (40, 40, 200), (128, 128, 128)])
def test_matrix_and_range(
    tmp_path: Path,
    codec: str,
    matrix: str,
    height: int,
    tags: tuple[int, int, int, int] | None,
    color: tuple[int, int, int],
) -> None:
    path = tmp_path / "color.mp4"
    options = {"crf": "1", "preset": "ultrafast"} if codec == "libx264" else {"crf": "1", "b": "0", "cpu-used": "8"}
    full = tags is not None and tags[1] == 2
    rgb = av.VideoFrame.from_ndarray(np.full((height, 64, 3), color, np.uint8), format="rgb24")
    frame = rgb.reformat(format="yuv420p", dst_colorspace=matrix, dst_color_range="JPEG" if full else "MPEG")
    with av.open(str(path), "w") as media:
        stream = media.add_stream(codec, rate=24, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, height, "yuv420p"
        context = stream.codec_context
        frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc = tags or (2, 0, 2, 2)
        if tags is not None:
            context.colorspace, context.color_range, context.color_primaries, context.color_trc = tags
        media.mux(stream.encode(frame))
        media.mux(stream.encode(None))
    shown = pictures(probe(path, "mp4", Limits()))
    assert np.abs(shown[0, height // 2, 32].astype(int) - color).max() <= 3


def see_through(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """A picture with an opaque left half and a right half of alpha 64."""
    alpha = np.full((height, width, 1), 255, np.uint8)
    alpha[:, width // 2 :] = 64
    return np.concatenate([np.full((height, width, 3), 200, np.uint8), alpha], axis=2)


SEE_THROUGH = (
    Clip("alpha.mov", codec="prores_ks", pix_fmt="yuva444p10le", options=(("profile", "4444"),)),
    Clip(
        "alpha.webm",
        codec="libvpx-vp9",
        pix_fmt="yuva420p",
        options=(("cpu-used", "8"), ("crf", "5"), ("b", "0"), ("auto-alt-ref", "0")),
    ),
    Clip("alpha.mkv", codec="ffv1", pix_fmt="bgra"),
)


@pytest.mark.parametrize("clip", SEE_THROUGH, ids=lambda clip: clip.name)
def test_alpha_is_blended_over_black(tmp_path: Path, clip: Clip) -> None:
    video = opened(replace(clip, picture=see_through, frames=3), tmp_path)
    assert video.picture.alpha
    assert video.facts.notes == (TRANSPARENT_NOTE,)
    shown = pictures(video)[1]
    assert abs(int(shown[48, 20].mean()) - 200) <= 3
    assert abs(int(shown[48, 100].mean()) - 50) <= 3


def opaque(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """A picture with an alpha channel that is opaque everywhere."""
    picture = see_through(number, width, height)
    picture[..., 3] = 255
    return picture


@pytest.mark.parametrize("clip", SEE_THROUGH, ids=lambda clip: clip.name)
def test_an_opaque_alpha_channel_has_no_note(tmp_path: Path, clip: Clip) -> None:
    video = opened(replace(clip, picture=opaque, frames=3), tmp_path)
    assert video.picture.alpha
    assert video.facts.notes == ()


def test_a_picture_that_becomes_transparent_at_its_end_has_a_note(tmp_path: Path) -> None:
    def fading(number: int, width: int, height: int) -> NDArray[np.uint8]:
        return see_through(number, width, height) if number == 2 else opaque(number, width, height)

    clip = replace(SEE_THROUGH[-1], picture=fading, frames=3)
    assert opened(clip, tmp_path).facts.notes == ()
    with open_source(tmp_path / clip.name) as source:
        assert source.facts.notes == (TRANSPARENT_NOTE,)


@pytest.mark.parametrize(("transfer", "trc"), [("pq", 16), ("hlg", 18)])
def test_high_dynamic_range_is_recognised(tmp_path: Path, transfer: str, trc: int) -> None:
    clip = Clip("hdr.mp4", frames=2, pix_fmt="yuv420p10le", tags=(9, 1, 9, trc))
    video = opened(clip, tmp_path)
    assert video.picture.transfer == transfer
    assert video.facts.notes == (HDR_NOTE.format(transfer=transfer.upper()),)
    assert corners(pictures(video)[0]) == "RGBW"


@pytest.mark.parametrize(
    ("trc", "code", "nits"), [(16, 0.4403, 50.0), (16, 0.3, 10.1), (18, 0.5, 50.7), (18, 1.0, 203.0)]
)
def test_greys_of_known_brightness(tmp_path: Path, trc: int, code: float, nits: float) -> None:
    """Greys of BT.2100 get the codes of their light on a screen whose white is 203 nits."""

    def grey(number: int, width: int, height: int) -> NDArray[np.uint16]:
        return np.full((height, width, 3), round(code * 65535), np.uint16)

    clip = Clip(
        "grey.mov",
        frames=1,
        codec="prores_ks",
        pix_fmt="yuv444p10le",
        options=(("profile", "4444"),),
        tags=(9, 1, 9, trc),
    )
    video = opened(replace(clip, picture=grey), tmp_path)
    expected = 255 * (nits / 203) ** (1 / 2.4)
    assert np.abs(pictures(video)[0].astype(int) - expected).max() <= 2


def test_10_bit_standard_dynamic_range(tmp_path: Path) -> None:
    video = opened(Clip("ten.mp4", frames=2, pix_fmt="yuv420p10le", tags=BT709, picture=flat(90, 140, 190)), tmp_path)
    assert video.picture.transfer == "sdr"
    assert (
        np.abs(pictures(video)[1].astype(int) - (90, 140, 190)).max() <= 2 + 8
    )  # The clip is made with another matrix.


def stripes(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """An interlaced frame of a moving bar: its even lines are four columns left of its odd lines."""
    picture = np.full((height, width, 3), 40, np.uint8)
    for line in range(height):
        left = 16 + 8 * number + 4 * (line % 2)
        picture[line, left : left + 24] = 210
    return picture


def test_interlaced_frames_are_deinterlaced(tmp_path: Path) -> None:
    clip = Clip("fields.mp4", frames=8, options=X264_INTERLACED, picture=stripes)
    video = opened(clip, tmp_path)
    assert video.picture.interlaced
    assert video.facts.num_frames == 8
    shown = pictures(video)
    combing = np.abs(np.diff(shown[4].astype(int), axis=0)).max(axis=(1, 2))[4:-4]
    assert np.median(combing) < 40
    raw = stripes(4, 128, 96)
    assert np.median(np.abs(np.diff(raw.astype(int), axis=0)).max(axis=(1, 2))) > 150


def test_progressive_frames_are_not_interlaced(tmp_path: Path) -> None:
    video = opened(Clip("plain.mp4", frames=2, picture=numbered), tmp_path)
    assert not video.picture.interlaced
