"""Detecting containers by first bytes, and errors that name the kind of other files."""

import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from longtake.errors import UnsupportedVideo
from longtake.media.sniff import CONTAINERS, sniff
from tests.descriptors import no_free_descriptor
from tests.media.clips import STEADY, Clip, write_webp


@pytest.mark.parametrize("clip", STEADY, ids=lambda clip: clip.name)
def test_sniff_made_clips(tmp_path: Path, clip: Clip) -> None:
    expected = {"mkv": "matroska", "ts": "mpegts"}
    suffix = clip.name.rpartition(".")[2]
    assert sniff(clip.write(tmp_path)) == expected.get(suffix, suffix)


def test_sniff_animated_webp(tmp_path: Path) -> None:
    assert sniff(write_webp(tmp_path / "a.webp", 2, (96, 64), 40)) == "webp"


def test_sniff_blu_ray_stream(tmp_path: Path) -> None:
    packet = b"\0\0\0\0\x47" + bytes(187)
    (tmp_path / "a.m2ts").write_bytes(packet * 6)
    assert sniff(tmp_path / "a.m2ts") == "mpegts"


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"", "an empty file"),
        (b"#EXTM3U\n#EXT-X-VERSION:3\n", "an HLS playlist"),
        (b"\xef\xbb\xbf\n#EXTM3U\n", "an HLS playlist"),
        (b"ffconcat version 1.0\nfile a.mp4\n", "a list of files"),
        (b"v=0\no=- 0 0 IN IP4 127.0.0.1\n", "a session description"),
        (b'<?xml version="1.0"?><MPD>', "an XML document"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"<svg xmlns=", "an SVG drawing"),
        (b'{"detail": "not found"}', "JSON text"),
        (b"Access denied\n", "text"),
        (b"OggS\0\2", "an Ogg file"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "a WAV sound file"),
        (b"ID3\x04\0\0", "an MP3 sound file"),
        (b"%PDF-1.7", "a PDF document"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"\x00\x00\x00\x1cftypheic\0\0\0\0", "a HEIC picture"),
        (b"\x00\x00\x00\x1cftypavif\0\0\0\0", "an AVIF picture"),
        (b"\x00\x00\x01\xba\x44", "an MPEG program stream"),
        (bytes(64), "of no kind that is known"),
        (b"GIF", "text"),
    ],
)
def test_the_error_names_the_kind_of_file(tmp_path: Path, head: bytes, words: str) -> None:
    (tmp_path / "video.mp4").write_bytes(head)
    with pytest.raises(UnsupportedVideo, match=words) as caught:
        sniff(tmp_path / "video.mp4")
    assert "supported_formats" in caught.value.ctx


@pytest.mark.parametrize(
    ("kind", "words"), [("JPEG", "a JPEG picture"), ("PNG", "a PNG picture"), ("WEBP", "a still WebP picture")]
)
def test_a_picture_named_mp4(tmp_path: Path, kind: str, words: str) -> None:
    Image.new("RGB", (64, 48)).save(tmp_path / "video.mp4", format=kind)
    with pytest.raises(UnsupportedVideo, match=words):
        sniff(tmp_path / "video.mp4")


def test_a_huge_picture_is_refused(tmp_path: Path) -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    (tmp_path / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header)
    with pytest.raises(UnsupportedVideo, match="a PNG picture"):
        sniff(tmp_path / "huge.png")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedVideo, match="cannot be opened"):
        sniff(tmp_path / "none.mp4")


@given(st.binary(max_size=600))
def test_sniff_never_stumbles(tmp_path_factory: pytest.TempPathFactory, head: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "file"
    path.write_bytes(head)
    with contextlib.suppress(UnsupportedVideo):
        assert sniff(path) in CONTAINERS


def test_a_file_that_this_machine_cannot_open(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"\0\0\0\x18ftypisom")
    with no_free_descriptor(), pytest.raises(OSError, match="Too many open files"):
        sniff(path)
