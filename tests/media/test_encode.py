"""Encoding, with its writers `movie` and `gif`: every format makes a correct file, and no other file is left."""

import errno
import itertools
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import get_args

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.errors import Cancelled, InvalidRequest
from longtake.media.encode import Encoder
from longtake.media.formats import OutputFormat, OutputType, Quality, WriteMode, output_format
from longtake.media.frame_reader import frames
from longtake.media.limits import Limits
from longtake.media.probe import probe
from longtake.media.sound import num_samples, silence
from longtake.video import Span
from tests.media.files_out import BT709_LIMITED, boxes, moving, read

X264 = output_format("X264 (.mp4)", "medium", "fast")
VP9 = output_format("VP9 (.webm)", "medium", "fast")
PRORES = output_format("PRORES4444 (.mov)", "high", "fast")
FILM = Fraction(24_000, 1001)
CODECS = {
    "X264 (.mp4)": ("h264", "aac"),
    "VP9 (.webm)": ("vp9", "opus"),
    "PRORES4444 (.mov)": ("prores", "pcm_s24le"),
    "GIF (.gif)": ("gif", None),
}


def encode(
    path: Path,
    chosen: OutputFormat,
    frames: NDArray[np.uint8] | NDArray[np.uint16],
    rate: Fraction = Fraction(24),
    sound: NDArray[np.float32] | None = None,
) -> Path:
    with Encoder(
        path, chosen, frames.shape[2], frames.shape[1], rate, sound_rate=None if sound is None else 48_000
    ) as f:
        f.write(frames[:4])
        if sound is not None:
            f.write_sound(sound)
        f.write(frames[4:])
    return path


def tone(length: int, hz: float = 440.0) -> NDArray[np.float32]:
    wave = 0.3 * np.sin(2 * np.pi * hz * np.arange(length) / 48_000)
    return np.stack([wave, wave]).astype(np.float32)


@pytest.mark.parametrize("type_", get_args(OutputType))
def test_every_quality_and_mode_makes_a_correct_file(type_: OutputType, tmp_path: Path) -> None:
    frames = moving(9)
    for quality, mode in itertools.product(get_args(Quality), get_args(WriteMode)):
        chosen = output_format(type_, quality, mode)
        facts = read(encode(tmp_path / f"{quality}-{mode}{chosen.suffix}", chosen, frames, FILM, tone(100)))
        assert (facts.codec, facts.sound_codec) == CODECS[type_]
        if type_ == "GIF (.gif)":
            assert len(facts.frames) == (5 if quality in ("low", "medium") else 9)
        else:
            assert len(facts.frames) == 9
            assert facts.rate == FILM
            assert facts.tags == BT709_LIMITED
        if chosen.suffix in (".mp4", ".mov"):
            order = boxes(tmp_path / f"{quality}-{mode}{chosen.suffix}")
            assert order.index("moov") < order.index("mdat")
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".part"]


@pytest.mark.parametrize("rate", [FILM, Fraction(30_000, 1001), Fraction(25, 2), Fraction(60)])
@pytest.mark.parametrize("chosen", [X264, VP9, PRORES], ids=lambda chosen: chosen.container)
def test_frame_rates_are_exact(chosen: OutputFormat, rate: Fraction, tmp_path: Path) -> None:
    facts = read(encode(tmp_path / "a", chosen, moving(48), rate))
    assert facts.rate == rate
    clock = Fraction(1, 1000) if chosen.container == "webm" else Fraction(0)
    assert all(abs(at - n / rate) <= clock for n, at in enumerate(facts.times))


@pytest.mark.parametrize("type_", get_args(OutputType))
def test_colour_bars_come_back(type_: OutputType, tmp_path: Path) -> None:
    colours = np.array(
        [[200, 40, 40], [40, 200, 40], [40, 40, 200], [235, 235, 235], [20, 20, 20], [180, 180, 30], [13, 77, 201]],
        np.uint8,
    )
    bars = np.ascontiguousarray(np.broadcast_to(np.repeat(colours, 16, axis=0), (9, 64, 112, 3)))
    seen = read(encode(tmp_path / "a", output_format(type_, "maximum", "fast"), bars)).frames[:, 8:-8, 8::16]
    assert np.abs(seen.astype(int) - colours).max() <= 3


def test_write_modes_order_the_sizes(tmp_path: Path) -> None:
    """Slower modes make smaller files; with fine grain at high quality, small may equal balanced."""
    frames = moving(12, 96, 160)

    def sizes(type_: OutputType, quality: Quality) -> list[int]:
        chosen = [output_format(type_, quality, mode) for mode in ("fast", "balanced", "small")]
        return [encode(tmp_path / "a", one, frames).stat().st_size for one in chosen]

    for quality in get_args(Quality):
        fast, balanced, small = sizes("X264 (.mp4)", quality)
        assert fast > balanced
        assert fast > small
        assert quality in ("high", "maximum") or balanced > small
    fast, balanced, small = sizes("VP9 (.webm)", "maximum")
    assert fast > balanced > small
    fast, balanced, small = sizes("PRORES4444 (.mov)", "maximum")
    assert fast == balanced > small


@pytest.mark.parametrize("type_", ["X264 (.mp4)", "VP9 (.webm)", "PRORES4444 (.mov)"])
def test_better_quality_loses_less(type_: OutputType, tmp_path: Path) -> None:
    frames = moving(9, 96, 128)
    losses = [
        np.square(
            read(encode(tmp_path / q, output_format(type_, q, "fast"), frames)).frames.astype(float) - frames
        ).mean()
        for q in get_args(Quality)
    ]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > 1.1 * losses[-1]


def test_16_bit_frames_keep_more_than_8_bits_in_prores(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65_535, 1024).round().astype(np.uint16)
    frames = np.broadcast_to(ramp[None, None, :, None], (2, 16, 1024, 3))
    path = encode(tmp_path / "a.mov", output_format("PRORES4444 (.mov)", "maximum", "fast"), frames)
    with av.open(str(path)) as file:
        plane = next(file.decode(video=0)).planes[0]
        luma = np.frombuffer(plane, np.uint16).reshape(16, -1)[8, :1024] / 4  # FFmpeg decodes 4444 to 12 bits
    assert np.abs(luma - (64 + 876 * (ramp / 65_535))).max() < 4
    assert len(np.unique(luma.round())) > 500


@pytest.mark.parametrize("chosen", [X264, VP9, PRORES], ids=lambda chosen: chosen.container)
@pytest.mark.parametrize("written", [0, 500, 1_000_000])
def test_sound_is_as_long_as_the_picture(chosen: OutputFormat, written: int, tmp_path: Path) -> None:
    frames = moving(31)
    facts = read(encode(tmp_path / "a", chosen, frames, FILM, tone(written)))
    assert facts.sound is not None
    length = num_samples(31, FILM)
    grid = 1024 if chosen.container == "mp4" else 0
    assert length <= facts.sound.shape[1] <= length + grid
    assert np.abs(facts.sound[:, written + 2000 :]).max(initial=0) < 0.01
    assert np.abs(facts.sound[:, length:]).max(initial=0) < 0.02


def test_lossless_sound_is_exact_for_blocks_of_any_size(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sound = rng.uniform(-1, 1, (2, num_samples(30, FILM))).astype(np.float32)
    with Encoder(tmp_path / "a.mov", PRORES, 64, 64, FILM) as file:
        for first, last in itertools.pairwise([0, 7, 5000, 5001, 40_000, sound.shape[1]]):
            file.write_sound(sound[:, first:last])
            file.write(moving(5))
        file.write(moving(5))
    heard = read(tmp_path / "a.mov").sound
    assert heard is not None
    assert heard.shape == sound.shape
    assert np.abs(heard - sound).max() < 2**-22


@pytest.mark.parametrize("chosen", [X264, VP9], ids=lambda chosen: chosen.container)
def test_an_impulse_at_the_joint_stays_there(chosen: OutputFormat, tmp_path: Path) -> None:
    joint = num_samples(20, FILM)
    sound = silence(num_samples(40, FILM))
    sound[:, joint] = 0.9
    heard = read(encode(tmp_path / "a", chosen, moving(40), FILM, sound)).sound
    assert heard is not None
    assert abs(int(np.abs(heard[0]).argmax()) - joint) <= 2


@pytest.mark.parametrize("chosen", [X264, VP9], ids=lambda chosen: chosen.container)
@pytest.mark.parametrize("when", ["first", "last"])
def test_packets_are_interleaved_for_early_and_late_sound(chosen: OutputFormat, when: str, tmp_path: Path) -> None:
    num_frames, rate = 180, Fraction(12)  # Longer than the 10 s after which FFmpeg's muxers stop waiting.
    sound, chunk = tone(num_samples(num_frames, rate)), moving(20)
    with Encoder(tmp_path / "a", chosen, 64, 64, rate) as file:
        if when == "first":
            file.write_sound(sound)
        for _ in range(num_frames // 20):
            file.write(chunk)
        if when == "last":
            file.write_sound(sound)
    clock = {"video": Fraction(0), "audio": Fraction(0)}
    with av.open(str(tmp_path / "a")) as opened:
        for packet in opened.demux():
            if packet.dts is not None:
                clock[packet.stream.type] = max(clock[packet.stream.type], packet.dts * packet.time_base)
                assert abs(clock["video"] - clock["audio"]) < 1.5


@pytest.mark.parametrize("chosen", [X264, VP9], ids=lambda chosen: chosen.container)
def test_an_odd_size_is_refused_with_the_next_even_one(chosen: OutputFormat, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"even width and height; 63x64 was given, 64x64 would do"):
        Encoder(tmp_path / "a", chosen, 63, 64, FILM)


@pytest.mark.parametrize("type_", ["PRORES4444 (.mov)", "GIF (.gif)"])
def test_odd_sizes_in_formats_that_allow_them(type_: OutputType, tmp_path: Path) -> None:
    frames = moving(9, 63, 65)
    seen = read(encode(tmp_path / "a", output_format(type_, "maximum", "fast"), frames)).frames
    assert seen.shape == frames.shape
    assert np.abs(seen.astype(int) - frames).mean() < 12


def test_equal_frames_make_equal_files(tmp_path: Path) -> None:
    frames = moving(12, 128, 96)
    for type_ in get_args(OutputType):
        chosen = output_format(type_, "high", "balanced")
        files = {encode(tmp_path / str(n), chosen, frames, FILM, tone(24_000)).read_bytes() for n in range(3)}
        assert len(files) == 1, type_


def file_names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.mark.parametrize("type_", get_args(OutputType))
def test_an_exception_leaves_no_file_and_no_thread(type_: OutputType, tmp_path: Path) -> None:
    threads = threading.active_count()
    chosen = output_format(type_, "medium", "fast")
    with pytest.raises(Cancelled), Encoder(tmp_path / "a", chosen, 64, 64, FILM) as file:  # noqa: PT012
        file.write(moving(48))
        file.write(moving(9))
        raise Cancelled
    assert file_names(tmp_path) == []
    assert threading.active_count() == threads


def test_an_exception_ends_the_encoder_at_the_next_frame(tmp_path: Path) -> None:
    """Encoding all of these 480 large frames takes minutes."""
    slow = output_format("VP9 (.webm)", "maximum", "small")
    chunk = np.broadcast_to(moving(1, 704, 1248), (480, 704, 1248, 3))
    with pytest.raises(Cancelled), Encoder(tmp_path / "a", slow, 1248, 704, FILM) as file:  # noqa: PT012
        file.write(chunk)
        began = time.monotonic()
        raise Cancelled
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("type_", ["VP9 (.webm)", "GIF (.gif)"])
def test_waiting_can_be_cancelled(type_: OutputType, tmp_path: Path) -> None:
    """VP9 makes the caller wait in `write`, GIF at the end of the block. Both call `check`, and both stop."""
    frames = np.random.default_rng(0).integers(0, 256, (1, 704, 1248, 3), dtype=np.uint8).repeat(40, axis=0)
    frames[1::2] = 255 - frames[1::2]
    began = 0.0

    def check() -> None:
        nonlocal began
        began = time.monotonic()
        raise Cancelled

    chosen = output_format(type_, "maximum", "small" if type_ == "VP9 (.webm)" else "fast")
    with pytest.raises(Cancelled), Encoder(tmp_path / "a", chosen, 1248, 704, FILM, check=check) as file:  # noqa: PT012
        for _ in range(1 if chosen.palette else 3):
            file.write(frames)
    assert 0 < time.monotonic() - began < 30
    assert file_names(tmp_path) == []


def test_the_file_is_replaced_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"the previous file")
    with Encoder(path, X264, 64, 64, FILM, sound_rate=None) as file:
        file.write(moving(48))
        assert path.read_bytes() == b"the previous file"
    assert file_names(tmp_path) == ["a.mp4"]
    assert len(read(path).frames) == 48


def test_a_failing_encoder_raises_in_the_next_write(tmp_path: Path) -> None:
    path = tmp_path / "absent" / "a.mp4"

    def keep_writing() -> None:
        with Encoder(path, X264, 64, 64, FILM, sound_rate=None) as file:
            for _ in range(100):
                file.write(moving(9))
            pytest.fail("a hundred chunks were written without an error")

    with pytest.raises(OSError, match=r"No such file") as caught:
        keep_writing()
    assert caught.value.errno == errno.ENOENT


def test_a_full_disk_is_an_error_and_leaves_no_file(tmp_path: Path) -> None:
    """A limit on the size of files simulates the full disk."""
    program = f"""
import resource, signal, pathlib, numpy
from fractions import Fraction
from longtake.media.encode import Encoder
from longtake.media.formats import output_format
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
chunk = numpy.random.default_rng(0).integers(0, 255, (8, 128, 128, 3), dtype=numpy.uint8)
folder = pathlib.Path({str(tmp_path)!r})
for kind in ("X264 (.mp4)", "PRORES4444 (.mov)", "GIF (.gif)"):
    try:
        with Encoder(folder / "a", output_format(kind, "maximum", "fast"), 128, 128, Fraction(24)) as file:
            for _ in range(20):
                file.write(chunk)
    except OSError as error:
        print(kind, error.errno)
print(sorted(path.name for path in folder.iterdir()))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split("\n")[:4] == [
        f"X264 (.mp4) {errno.EFBIG}",
        f"PRORES4444 (.mov) {errno.EFBIG}",
        f"GIF (.gif) {errno.EFBIG}",
        "[]",
    ]


def textured(count: int) -> NDArray[np.uint8]:
    """A pan over coarse and fine texture [count, 96, 128, 3]."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(40, 216, (12, 64, 3)).repeat(8, axis=0).repeat(8, axis=1)
    picture = np.clip(coarse + generator.normal(0, 3, coarse.shape), 0, 255).astype(np.uint8)
    return np.stack([picture[:, 2 * number : 2 * number + 128] for number in range(count)])


def stored_planes(path: Path) -> list[NDArray[np.float64]]:
    """The planes Y, Cb and Cr of all frames of an 8-bit 4:2:0 file, decoded without the code under test."""
    with av.open(str(path)) as media:
        packed = np.stack([frame.to_ndarray().astype(float) for frame in media.decode(video=0)])
    height = packed.shape[1] * 2 // 3
    return [packed[:, :height], *np.split(packed[:, height:], 2, axis=1)]


@pytest.mark.parametrize(("quality", "first", "fifth"), [("high", 50, 50), ("maximum", 55, 52)])
def test_five_passes_keep_the_source_s_planes(quality: Quality, first: float, fifth: float, tmp_path: Path) -> None:
    """Each pass reads the last result's planes and writes them again. The Y-PSNR is in dB, the shift in codes."""
    chosen = output_format("X264 (.mp4)", quality, "balanced")
    path = encode(tmp_path / "0.mp4", output_format("X264 (.mp4)", "high", "balanced"), textured(12))
    source, psnr = stored_planes(path), []
    for number in range(1, 6):
        video = probe(path, "mp4", Limits())
        path = tmp_path / f"{number}.mp4"
        with Encoder(path, chosen, 128, 96, Fraction(24), sound_rate=None) as file:
            for chunk in frames(video, Span(0, 12, Fraction(24)), None, 12, chosen.frame_format):
                file.write_planes(chunk)
        result = stored_planes(path)
        for before, after in zip(source, result, strict=True):
            assert abs((after - before).mean()) < 0.05 * number
        psnr.append(10 * np.log10(255**2 / np.square(result[0] - source[0]).mean()))
    assert psnr[0] >= first
    assert psnr[4] >= fifth


def test_a_video_without_frames_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No frame"), Encoder(tmp_path / "a", X264, 64, 64, FILM):
        pass
    assert file_names(tmp_path) == []


def test_wrong_shapes_are_refused(tmp_path: Path) -> None:
    with Encoder(tmp_path / "a", X264, 64, 64, FILM, sound_rate=None) as file:
        with pytest.raises(ValueError, match="uint8 or uint16"):
            file.write(moving(2, 64, 32))
        with pytest.raises(ValueError, match="uint8 or uint16"):
            file.write(moving(2).astype(np.uint32))
        with pytest.raises(ValueError, match=r"\(96, 64\).* uint8"):
            file.write_planes(moving(2))
        with pytest.raises(ValueError, match="without sound"):
            file.write_sound(silence(10))
        file.write(moving(2))
    with pytest.raises(ValueError, match="48000 Hz, not 24000"):
        Encoder(tmp_path / "a", X264, 64, 64, FILM, sound_rate=24_000)


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    """Short videos first, then long ones in chunks of equal size, in a process of their own: its peak hardly grows."""
    program = f"""
import resource, pathlib, numpy
from fractions import Fraction
from longtake.media.encode import Encoder
from longtake.media.formats import output_format
def peak_mib(count):
    for kind in ("X264 (.mp4)", "GIF (.gif)"):
        path = pathlib.Path({str(tmp_path)!r}) / "a"
        with Encoder(path, output_format(kind, "low", "fast"), 480, 272, Fraction(24), sound_rate=None) as file:
            for n in range(count):
                chunk = numpy.empty((8, 272, 480, 3), numpy.uint8)
                chunk[:] = (numpy.arange(480)[None, None, :, None] + 8 * n + numpy.arange(8)[:, None, None, None]) % 256
                file.write(chunk)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
print(peak_mib(8), peak_mib(32))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    short, long = map(int, done.stdout.split())
    assert long - short < 25, f"{short} MiB for 64 frames, {long} MiB for 256; those 192 frames are 72 MiB"
