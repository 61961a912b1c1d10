"""Readers of videos and pictures whose decode process is hostile, or dies without fault of the file."""

import json
import os
import signal
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from longtake.errors import DecoderFailed, LongtakeError, UnsupportedVideo
from longtake.media.limits import Limits
from longtake.media.sandbox import DecodeProcess, Decoder
from longtake.media.source import SourceReader, video_info
from longtake.video import Span, VideoInfo
from tests.media.clips import X264_SHORT_GOP, Clip, Tone
from tests.media.takeover import taken_over

NONSENSE = "an answer that makes no sense"
FACTS: dict[str, object] = {
    "container": "mp4",
    "codec": "h264",
    "width": 64,
    "height": 48,
    "rate": "30000/1001",
    "num_frames": 4,
}


def message(header: object, payload: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack(">I", len(text)) + text + payload


def frames(count: int) -> bytes:
    return message({"shape": [count, 48, 64, 3], "dtype": "uint8"}, bytes(count * 48 * 64 * 3))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("untrusted") / "file"
    path.write_bytes(b"x")
    return path


CHECKED = (message({}), message({}))
"""The answers of a decode process that found nothing wrong with the lists and the opening of a file."""


@contextmanager
def opened(file: Path, *answers: bytes) -> Iterator[SourceReader]:
    """A reader whose decode process sends these answers after the facts."""
    with taken_over(file, answers=(*CHECKED, message({"facts": FACTS}), *answers)) as process:
        yield SourceReader(Decoder(lambda: process), "mp4", Limits())


def test_the_facts_about_a_video() -> None:
    assert video_info(FACTS, "mp4", Limits()) == VideoInfo("mp4", "h264", 64, 48, Fraction(30000, 1001), 4)
    still = {"num_frames": 1, "rate": f"1/{Limits().max_duration_s:.0f}"}
    assert video_info(FACTS | still, "mp4", Limits()).num_frames == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"width": "wide"},
        {"width": None},
        {"width": 6.5},
        {"width": -64, "height": -48},
        {"width": 1 << 20, "height": 1 << 20},
        {"num_frames": 1 << 40},
        {"num_frames": 0},
        {"container": "webm"},
        {"rate": "1/10000"},
        {"num_frames": 1, "rate": f"1/{(1 << 64) - 1}"},
        {"delays_s": "3601"},
        {"rate": "0"},
        {"rate": "24/0"},
        {"rate": "1e999999"},
        {"rate": float("inf")},
        {"rate": "1/" + "7" * 4000},
        {"rate": ["24"]},
        {"notes": [1, 2]},
        {"sound": {"rate": 48000}},
        {"sound": {"rate": 0, "channels": 2, "layout": "stereo"}},
        {"delays_s": "-1"},
        {"codec": {"codec": "h264"}},
    ],
    ids=str,
)
def test_facts_that_make_no_sense_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        video_info(FACTS | changes, "mp4", Limits())


@pytest.mark.parametrize("fields", [None, [], [1], "mp4", {}, {"container": "mp4"}])
def test_facts_of_another_form_are_refused(fields: object) -> None:
    with pytest.raises(ValueError, match="VideoInfo"):
        video_info(fields, "mp4", Limits())


@pytest.mark.parametrize(
    "answer",
    [
        message({"facts": [1]}),
        message({"error": "UnsupportedVideo"}),
        message({"error": "VideoTooLong", "message": "x", "ctx": "y"}),
        message({"error": "VideoTooLong", "message": "x", "ctx": {"a": {"b": 1}}}),
        message({"error": "VideoTooLong", "message": "x", "ctx": {"a": ["b", ["c"]]}}),
    ],
    ids=["facts", "error", "context", "nested context", "nested list"],
)
def test_nonsense_in_place_of_facts_is_one_error_and_the_end_of_the_process(file: Path, answer: bytes) -> None:
    with taken_over(file, answers=(*CHECKED, answer)) as process:
        with pytest.raises(UnsupportedVideo, match=NONSENSE):
            SourceReader(Decoder(lambda: process), "mp4", Limits())
        with pytest.raises(UnsupportedVideo, match=NONSENSE):
            process.call({"do": "read"})
        assert process._process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("answer", [message({}), frames(5), message({"shape": [2], "dtype": "uint8"}, b"12")])
def test_chunks_that_make_no_sense_are_refused(file: Path, answer: bytes) -> None:
    """No chunk, more frames than the span has, and another shape."""
    with opened(file, message({}), frames(1), answer) as source:
        chunks = source.frames(Span(0, 4, Fraction(24)))
        assert next(chunks).shape == (1, 48, 64, 3)
        with pytest.raises(UnsupportedVideo, match=NONSENSE):
            next(chunks)


def test_a_stream_ends_with_the_last_frame_of_the_span(file: Path) -> None:
    """A hostile decoder could send frames for ever."""
    with opened(file, message({}), frames(3), frames(1), frames(1)) as source:
        assert [len(chunk) for chunk in source.frames(Span(0, 4, Fraction(24)))] == [3, 1]


def test_errors_of_the_child_are_of_few_kinds(file: Path) -> None:
    answers = [message({"error": kind, "message": "Bad."}) for kind in ("VideoTooLong", "SystemExit", "Cancelled")]
    with taken_over(file, answers=tuple(answers)) as process:
        kinds = []
        for _ in answers:
            with pytest.raises(LongtakeError, match="Bad") as error:
                process.call({"method": "facts"})
            kinds.append(type(error.value).__name__)
    assert kinds == ["VideoTooLong", "UnsupportedVideo", "UnsupportedVideo"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    clip = Clip("clip.mp4", frames=48, options=X264_SHORT_GOP, sound=Tone())
    return clip.write(tmp_path_factory.mktemp("killed"))


class Killable:
    """Starts decode processes of a file and remembers them, so that a test can kill the last one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.started: list[DecodeProcess] = []

    def start(self) -> DecodeProcess:
        self.started.append(DecodeProcess("longtake.media.decode_server", self._path, {"container": "mp4"}, Limits()))
        return self.started[-1]

    def kill(self) -> None:
        os.kill(self.started[-1].pid, signal.SIGKILL)

    def close(self) -> None:
        for process in self.started:
            process.close()


@pytest.mark.parametrize("reverse", [False, True])
def test_reading_goes_on_in_a_new_process_after_a_kill_from_outside(clip: Path, reverse: bool) -> None:
    processes = Killable(clip)
    source = SourceReader(Decoder(processes.start), "mp4", Limits())
    span = Span(3, 45, source.facts.rate, reverse)
    expected = np.concatenate(list(source.frames(span)))
    chunks = source.frames(span, chunk=5)
    read = [next(chunks), next(chunks)]
    processes.kill()
    read += chunks
    np.testing.assert_array_equal(np.concatenate(read), expected)
    assert len(processes.started) == 2
    processes.close()


def test_a_second_kill_from_outside_is_an_error(clip: Path) -> None:
    processes = Killable(clip)
    source = SourceReader(Decoder(processes.start), "mp4", Limits())
    chunks = source.frames(Span(0, 48, source.facts.rate), chunk=4)
    next(chunks)
    processes.kill()
    next(chunks)
    processes.kill()
    with pytest.raises(DecoderFailed, match=r"\(SIGKILL\).* A second try failed, too\.") as error:
        list(chunks)
    assert error.value.status == 500
    assert len(processes.started) == 2
    processes.close()


def test_a_source_that_is_closed_during_a_call_is_not_opened_again(file: Path) -> None:
    """The call ends because the process is killed, but not from outside."""
    started: list[DecodeProcess] = []
    with taken_over(file) as process:

        def start() -> DecodeProcess:
            started.append(process)
            return process

        decoder = Decoder(start)
        threading.Timer(0.2, decoder.close).start()
        with pytest.raises(UnsupportedVideo, match="no longer open"):
            decoder.run(lambda process: process.call({"do": "spin"}))
    assert len(started) == 1


def test_a_fault_of_the_file_is_not_tried_again(clip: Path) -> None:
    processes = Killable(clip)
    source = SourceReader(Decoder(processes.start), "mp4", Limits())
    os.kill(processes.started[-1].pid, signal.SIGSEGV)
    with pytest.raises(UnsupportedVideo, match="SIGSEGV"):
        source.sound(Fraction(0), Fraction(1))
    assert len(processes.started) == 1
    processes.close()
