"""The readable part of damaged and truncated videos: used as far as it goes, with a note."""

import re
from fractions import Fraction
from pathlib import Path

import pytest

from longtake.media.frame_reader import frames
from longtake.media.limits import Limits
from longtake.media.probe import ProbedVideo, probe
from longtake.media.readable import readable_part
from longtake.media.sniff import sniff
from longtake.media.source import open_source
from longtake.video import Span
from tests.media.clips import FASTSTART, STEADY, X264_SHORT_GOP, X265_QUIET, Clip, Tone, cut, number_of

pytestmark = pytest.mark.usefixtures("forked_decoders")

CLIPS = (
    Clip("h264.mp4", frames=48, options=X264_SHORT_GOP, muxer_options=FASTSTART),
    Clip("fragments.mp4", 48, options=X264_SHORT_GOP, muxer_options=(("movflags", "frag_keyframe+empty_moov"),)),
    Clip("hevc.mp4", frames=48, codec="libx265", options=X265_QUIET, muxer_options=FASTSTART),
    Clip(
        "fragments_and_sound.mp4",
        48,
        options=X264_SHORT_GOP,
        muxer_options=(("movflags", "frag_keyframe+empty_moov"),),
        sound=Tone(),
    ),
    Clip("h264.mkv", frames=48, options=X264_SHORT_GOP),
    Clip("h264_and_sound.mkv", frames=48, options=X264_SHORT_GOP, sound=Tone()),
    Clip("vp9.webm", frames=48, codec="libvpx-vp9", options=(("g", "12"), ("cpu-used", "8"))),
    Clip("mjpeg.avi", frames=48, codec="mjpeg", pix_fmt="yuvj420p"),
    Clip("h264.ts", frames=48, options=X264_SHORT_GOP),
)


def usable(path: Path) -> ProbedVideo:
    return readable_part(probe(path, sniff(path), Limits()))


def numbers_of(video: ProbedVideo) -> list[int]:
    """The numbers of all frames of a video, as they are read."""
    span = Span(0, video.facts.num_frames, video.facts.rate)
    return [number_of(frame) for chunk in frames(video, span, None, 16) for frame in chunk]


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.name)
def test_a_truncated_file_is_used_up_to_the_cut(tmp_path: Path, clip: Clip) -> None:
    video = usable(cut(clip.write(tmp_path), tmp_path / f"cut_{clip.name}", 0.85))
    assert 15 < video.facts.num_frames < 46
    assert numbers_of(video) == list(range(video.facts.num_frames))
    (note,) = video.facts.notes
    whole = "" if clip.name == "fragments_and_sound.mp4" else r" of [12]\.\d\d s"
    assert re.match(rf"The source is damaged or cut off after [01]\.\d\d s{whole}\. The", note)


@pytest.mark.parametrize("clip", [CLIPS[0], *CLIPS[2:-1]], ids=lambda clip: clip.name)
def test_a_file_with_an_empty_end_is_used_up_to_there(tmp_path: Path, clip: Clip) -> None:
    data = clip.write(tmp_path).read_bytes()
    index = 1000 if clip.name == "mjpeg.avi" else 0
    start, stop = int(len(data) * 0.8), len(data) - index
    path = tmp_path / f"empty_{clip.name}"
    path.write_bytes(data[:start] + bytes(stop - start) + data[stop:])
    video = usable(path)
    assert 10 < video.facts.num_frames < 46
    assert numbers_of(video) == list(range(video.facts.num_frames))
    assert len(video.facts.notes) == 1


@pytest.mark.parametrize("clip", STEADY, ids=lambda clip: clip.name)
def test_a_whole_file_is_used_as_it_is(tmp_path: Path, clip: Clip) -> None:
    path = clip.write(tmp_path)
    assert usable(path) == probe(path, sniff(path), Limits())


def test_a_damaged_variable_rate_video_ends_with_its_last_readable_frame(tmp_path: Path) -> None:
    times = [n + 3 * (n > 5) for n in range(48)]
    clip = Clip("vfr.mp4", 48, options=X264_SHORT_GOP, muxer_options=FASTSTART, pts=times, tick_s=Fraction(1, 24))
    data = clip.write(tmp_path).read_bytes()
    (tmp_path / "empty.mp4").write_bytes(data[:-300] + bytes(300))
    numbers = numbers_of(usable(tmp_path / "empty.mp4"))
    assert numbers[:9] == [0, 1, 2, 3, 4, 5, 5, 5, 5]
    assert numbers[9:] == list(range(6, len(numbers) - 3))
    assert 20 <= numbers[-1] < 47


def test_the_note_reaches_whoever_opens_the_file(tmp_path: Path) -> None:
    path = cut(CLIPS[0].write(tmp_path), tmp_path / "cut.mp4", 0.85)
    with open_source(path) as source:
        assert source.facts == usable(path).facts
        assert len(source.facts.notes) == 1
