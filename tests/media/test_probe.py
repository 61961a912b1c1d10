"""Probing: true numbers of frames, exact rates, and errors for files that are no videos."""

import struct
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest

from longtake.errors import UnsupportedVideo, VideoTooLarge, VideoTooLong
from longtake.media.encode import Encoder
from longtake.media.formats import OutputType, output_format
from longtake.media.frame_reader import frames
from longtake.media.limits import Limits
from longtake.media.packets import shown_packets
from longtake.media.probe import decoded, probe
from longtake.media.sniff import sniff
from longtake.video import SoundInfo, Span, VideoInfo
from tests import raw
from tests.media.clips import FASTSTART, STEADY, X264_SHORT_GOP, Clip, Tone, cut, number_of, write_gif, write_webp
from tests.media.files_out import moving


def facts(path: Path, limits: Limits = Limits()) -> VideoInfo:  # noqa: B008
    return probe(path, sniff(path), limits).facts


@pytest.mark.parametrize("clip", STEADY, ids=lambda clip: clip.name)
def test_files_of_a_steady_rate(tmp_path: Path, clip: Clip) -> None:
    found = facts(clip.write(tmp_path))
    assert (found.num_frames, found.rate) == (clip.frames, clip.rate)
    assert (found.width, found.height) == clip.size


def test_a_variable_rate_counts_the_frames_shown(tmp_path: Path) -> None:
    times = [0, 1, 2, 4, 5, 6, 9, 10, 11, 12, 13, 14]
    clip = Clip("vfr.mp4", frames=12, pts=times, tick_s=Fraction(1, 24))
    assert facts(clip.write(tmp_path)) == VideoInfo("mp4", "h264", 128, 96, Fraction(24), 15, stored_frames=12)


@pytest.mark.parametrize(
    ("ticks", "rate", "count"), [(None, Fraction(25), 1), (3000, Fraction(1, 3), 1), (40, Fraction(25), 1)]
)
def test_one_frame_without_a_rate(tmp_path: Path, ticks: int | None, rate: Fraction, count: int) -> None:
    """A WebM file that states no rate, but perhaps how long its only frame is shown."""
    plain = Clip("plain.webm", frames=1, codec="libvpx").write(tmp_path)
    with av.open(str(plain)) as media, av.open(str(tmp_path / "one.webm"), "w") as one:
        stream = one.add_stream_from_template(media.streams.video[0])
        packet = next(packet for packet in media.demux(video=0) if packet.size)
        packet.stream, packet.duration = stream, ticks or 0
        one.mux(packet)
    found = facts(tmp_path / "one.webm")
    assert (found.rate, found.num_frames) == (rate, count)


@pytest.mark.parametrize("name", ["obs60_dropped_frames.mkv", "screen60_vfr.mp4", "fragmented_long_first_frame.mp4"])
def test_recordings_at_60_and_a_hair_show_every_frame(shared: Path, name: str) -> None:
    path = shared / "cases" / "media" / name
    if not path.exists():
        pytest.skip(f"{name} is not in the shared folder")
    video = probe(path, sniff(path), Limits())
    with av.open(str(path)) as media:
        stored = sum(packet.size > 0 for packet in media.demux(video=0))
    assert video.facts.rate == 60
    assert set(video.timeline.stored(Span(0, video.facts.num_frames, Fraction(60)))) == set(range(stored))


@pytest.mark.parametrize("rate", [24, Fraction(24_000, 1001), 25, Fraction(30_000, 1001), 30, 50, 12, 1], ids=str)
@pytest.mark.parametrize("kind", ["X264 (.mp4)", "VP9 (.webm)", "PRORES4444 (.mov)", "GIF (.gif)"])
def test_facts_of_files_that_the_package_writes(tmp_path: Path, kind: OutputType, rate: Fraction | int) -> None:
    path = tmp_path / "video"
    with Encoder(path, output_format(kind, "high", "fast"), 48, 32, Fraction(rate), sound_rate=None) as file:
        file.write(moving(42, 32, 48))
    found, (count, seconds) = facts(path), raw.length(path)
    assert found.num_frames == count == 42
    assert found.rate == rate or (kind == "GIF (.gif)" and found.rate == round(rate))
    assert found.duration_s == pytest.approx(seconds, abs=1e-9 if kind != "VP9 (.webm)" else 1e-3)


def test_gif_delays(tmp_path: Path) -> None:
    clip = Clip("slow.gif", frames=8, codec="gif", pix_fmt="rgb8", rate=Fraction(24))
    assert (facts(clip.write(tmp_path)).rate, facts(tmp_path / "slow.gif").num_frames) == (Fraction(24), 8)


@pytest.mark.parametrize(
    ("shown_ms", "rate", "count"),
    [(40, Fraction(25), 6), ([40, 40, 120, 40, 40, 40], Fraction(25), 8), (0, Fraction(10), 6)],
)
def test_animated_webp(tmp_path: Path, shown_ms: int | list[int], rate: Fraction, count: int) -> None:
    found = facts(write_webp(tmp_path / "a.webp", 6, (96, 64), shown_ms))
    delays_s = Fraction(shown_ms * 6 if isinstance(shown_ms, int) else sum(shown_ms), 1000) or Fraction(6, 10)
    assert found == VideoInfo(
        "webp", "webp", 96, 64, rate, count, delays_s=delays_s, stored_frames=None if count == 6 else 6
    )


@pytest.mark.parametrize(
    ("tone", "sound"),
    [
        (None, None),
        (Tone(layout="mono", rate=44_100), SoundInfo(44_100, 1, "mono")),
        (Tone(), SoundInfo(48_000, 2, "stereo")),
        (Tone(layout="5.1"), SoundInfo(48_000, 6, "5.1")),
    ],
)
def test_sound(tmp_path: Path, tone: Tone | None, sound: SoundInfo | None) -> None:
    assert facts(Clip("clip.mp4", frames=4, sound=tone).write(tmp_path)).sound == sound


def test_a_file_with_sound_only_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedVideo, match="sound but no video"):
        facts(Clip("sound.mp4", codec=None, sound=Tone()).write(tmp_path))


def test_a_file_without_an_index_is_refused(tmp_path: Path) -> None:
    whole = Clip("whole.mp4", frames=24).write(tmp_path)
    with pytest.raises(UnsupportedVideo, match="cannot be read as mp4"):
        facts(cut(whole, tmp_path / "cut.mp4", 0.5))


def test_a_truncated_file_counts_the_frames_it_has(tmp_path: Path) -> None:
    whole = Clip("whole.mp4", frames=48, options=X264_SHORT_GOP, muxer_options=FASTSTART).write(tmp_path)
    found = facts(cut(whole, tmp_path / "cut.mp4", 0.7))
    with av.open(str(tmp_path / "cut.mp4")) as media:
        assert media.streams.video[0].frames == 48
        decodable = sum(1 for _ in decoded(shown_packets(media, media.streams.video[0]), media.streams.video[0]))
    assert 10 < found.num_frames <= decodable < 40
    assert decodable - found.num_frames <= 3
    assert found.rate == 24


def test_hidden_frames_are_not_counted(tmp_path: Path) -> None:
    """VP8 stores frames that only serve as references; here each frame has such a twin before it."""
    clip = Clip("plain.webm", frames=12, codec="libvpx", options=(("g", "1"), ("keyint_min", "1")))
    path = tmp_path / "twins.webm"
    with av.open(str(clip.write(tmp_path))) as plain, av.open(str(path), "w") as twins:
        stream = twins.add_stream_from_template(plain.streams.video[0])
        for packet in plain.demux(video=0):
            if not packet.size:
                continue
            data = bytes(packet)
            for shown, earlier in ((0, 20), (0x10, 0)):
                twin = av.Packet(bytes([data[0] & ~0x10 | shown]) + data[1:])
                twin.pts = twin.dts = packet.pts - earlier + 20
                twin.time_base, twin.stream, twin.is_keyframe = packet.time_base, stream, True
                twins.mux(twin)
    video = probe(path, "webm", Limits())
    assert (video.facts.num_frames, video.facts.rate) == (12, Fraction(24))
    (chunk,) = frames(video, Span(0, 12, Fraction(24)), None, 100)
    assert [number_of(picture) for picture in chunk] == list(range(12))


def test_an_edit_list_that_trims_both_ends(tmp_path: Path) -> None:
    data = bytearray(Clip("whole.mp4", frames=48, options=X264_SHORT_GOP).write(tmp_path).read_bytes())
    entry = data.index(b"elst") + 12
    duration_ms, media_time = struct.unpack_from(">Ii", data, entry)
    ticks = 512
    struct.pack_into(">Ii", data, entry, duration_ms - 500, media_time + 5 * ticks)
    (tmp_path / "trimmed.mp4").write_bytes(data)
    video = probe(tmp_path / "trimmed.mp4", "mp4", Limits())
    assert (video.facts.num_frames, video.facts.rate) == (36, Fraction(24))
    (chunk,) = frames(video, Span(0, 36, Fraction(24)), None, 100)
    assert [number_of(picture) for picture in chunk] == list(range(5, 41))


def test_a_header_without_frames_is_refused(tmp_path: Path) -> None:
    whole = Clip("whole.mp4", frames=48, muxer_options=FASTSTART).write(tmp_path)
    data = whole.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: data.index(b"mdat") + 8])
    with pytest.raises(UnsupportedVideo, match="without a single whole frame"):
        facts(tmp_path / "cut.mp4")


@pytest.mark.parametrize(
    ("limits", "error", "words"),
    [
        (Limits(max_pixels=100 * 96), VideoTooLarge, "128 x 96"),
        (Limits(max_duration_s=0.9), VideoTooLong, "lasts 1 s"),
        (Limits(max_frames=23), VideoTooLong, "more than 23 frames of 128 x 96 pixels"),
    ],
)
@pytest.mark.parametrize("make", [
    lambda folder: Clip("clip.mp4", frames=24).write(folder),
    lambda folder: write_webp(folder / "clip.webp", 25, (128, 96), 40),
], ids=["mp4", "webp"])  # fmt: skip
def test_limits(
    tmp_path: Path, make: Callable[[Path], Path], limits: Limits, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        facts(make(tmp_path), limits)


@pytest.mark.parametrize("make", [
    lambda folder, frames: write_gif(folder / "clip.gif", frames, (128, 96)),
    lambda folder, frames: write_webp(folder / "clip.webp", frames, (128, 96), 40),
], ids=["gif", "webp"])  # fmt: skip
def test_the_pixels_of_all_frames_of_an_animation_are_limited(
    tmp_path: Path, make: Callable[[Path, int], Path]
) -> None:
    limits = Limits(max_animation_pixels=10 * 128 * 96)
    assert facts(make(tmp_path, 10), limits).num_frames == 10
    with pytest.raises(VideoTooLong, match="more than 10 frames of 128 x 96 pixels, the most"):
        facts(make(tmp_path, 11), limits)
    assert facts(Clip("clip.mp4", frames=11).write(tmp_path), limits).num_frames == 11


def test_a_small_animation_of_endless_large_frames_is_refused(tmp_path: Path) -> None:
    path = write_gif(tmp_path / "bomb.gif", 1251, (4000, 4000))
    assert path.stat().st_size < 100_000
    with pytest.raises(VideoTooLong, match="more than 1250 frames of 4000 x 4000 pixels"):
        facts(path)


def test_a_far_timestamp_makes_the_video_too_long(tmp_path: Path) -> None:
    clip = Clip("far.mkv", frames=3, pts=[0, 1, 24 * 7200], tick_s=Fraction(1, 24))
    with pytest.raises(VideoTooLong, match="720"):
        facts(clip.write(tmp_path))


def test_a_long_frame_before_a_short_last_one_counts_for_both(tmp_path: Path) -> None:
    """The file says that the last frame lasts 1/24 s, but both frames are read with the same duration."""
    seconds = Fraction(1, 24)
    clip = Clip("two.mkv", frames=2, pts=[0, 24 * 100], tick_s=seconds)
    with pytest.raises(VideoTooLong, match="lasts 199 s"):
        facts(clip.write(tmp_path), Limits(max_duration_s=110))
    assert facts(clip.write(tmp_path), Limits(max_duration_s=200)).num_frames == 2


def test_stretched_pixels_count_towards_the_limit(tmp_path: Path) -> None:
    clip = replace(Clip("wide.mp4", frames=1), pixel_aspect=Fraction(16))
    with pytest.raises(VideoTooLarge, match="2048 x 96"):
        facts(clip.write(tmp_path), Limits(max_pixels=128 * 96 * 10))
