"""Data URIs as browsers and programs make them."""

import base64
import time

import pytest

from longtake.errors import InvalidRequest
from longtake.media.data_uri import decode, is_bare_base64, shortened

DATA = bytes(range(256)) * 3
TEXT = base64.b64encode(DATA).decode()
WRAPPED = "\r\n".join(TEXT[start : start + 76] for start in range(0, len(TEXT), 76))


@pytest.mark.parametrize(
    "header",
    [
        "data:;base64,",
        "data:video/mp4;base64,",
        "DATA:VIDEO/MP4;BASE64,",
        "data:video/mp4; base64,",
        "data:video/mp4 ; base64 ,",
        "data:video/webm;codecs=vp8,opus;base64,",
        "data:video/webm;codecs=vp9,opus; base64,",
        'data:video/mp4;codecs="avc1.42E01E, mp4a.40.2";base64,',
        "data:video/mp4;codecs=avc1.42E01E,mp4a.40.2;charset=utf-8;base64,",
        "data:video/mp4;codecs=avc1.42E01E%2Cmp4a.40.2;base64,",
        'data:video/mp4;name="a;base64,b.mp4";base64,',
        'data:video/mp4;name="a, b";title=";base64,";base64,',
        "data:video/mp4;name=%22a;base64,b.mp4%22;base64,",
        "data:video/mp4;base64;name=clip.mp4,",
        "data:base64,",
    ],
)
@pytest.mark.parametrize(
    "body",
    [
        TEXT,
        WRAPPED,
        TEXT.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"),
        WRAPPED.replace("\r\n", "%0A"),
        TEXT.replace("+", "-").replace("/", "_"),
        TEXT + "#t=1",
    ],
    ids=["plain", "wrapped", "escaped", "wrapped and escaped", "for URLs", "with a fragment"],
)
def test_every_beginning_and_every_way_to_write_base64_is_read(header: str, body: str) -> None:
    assert decode(header + body, len(DATA)) == DATA


@pytest.mark.parametrize(
    ("uri", "data"),
    [
        ("data:,a%20b,c", b"a b,c"),
        ("data:text/plain,hello;base64,x", b"hello;base64,x"),
        ("data:text/plain;charset=utf-8,a,b", b"a,b"),
        ('data:text/plain;title="a, b",c', b"c"),
        ('data:text/plain;title="a;base64,b",c', b"c"),
        ('data:text/plain;charset=utf-8,say "a, b', b'say "a, b'),
        ("data:text/plain;title=" + "a" * 1500 + ",b,c", b"b,c"),
    ],
)
def test_data_without_the_mark_is_text(uri: str, data: bytes) -> None:
    assert decode(uri, 100) == data


@pytest.mark.parametrize(("body", "first"), [("AA*A", r"\*"), ("AA==AA", "A"), ("AAA!?", "!"), ("AAA\u00e4", r"\\xc3")])
def test_other_characters_are_refused(body: str, first: str) -> None:
    with pytest.raises(InvalidRequest, match=f"characters that base64 does not have, the first is '{first}'"):
        decode(f"data:video/webm;codecs=vp8,opus;base64,{body}", 100)


def test_base64_without_a_beginning_is_recognised() -> None:
    assert is_bare_base64(TEXT)
    assert is_bare_base64(WRAPPED)
    assert is_bare_base64(TEXT.replace("+", "-").replace("/", "_"))
    assert is_bare_base64("base64," + TEXT)
    assert is_bare_base64("video/mp4;base64," + TEXT)
    assert not is_bare_base64("clip")
    assert is_bare_base64("video/mp4;codecs=avc1;base64," + TEXT)
    assert not is_bare_base64("video/mp4,base64," + TEXT)
    assert not is_bare_base64("/videos/" * 20 + "clip.mp4")


@pytest.mark.parametrize(("repeated", "looks_so"), [("a/", True), ("a", True), (" \n", True), ("base64,", False)])
def test_a_long_text_that_is_nearly_base64_is_read_once(repeated: str, looks_so: bool) -> None:
    near, far = ("A" + repeated * (size // len(repeated)) + "!" for size in (9_900, 10**7))
    start = time.thread_time()
    assert not is_bare_base64(near)
    assert is_bare_base64(far) is looks_so
    assert time.thread_time() - start < 0.1  # of a second; going back in the text would be hours


def test_a_text_for_an_error_has_at_most_80_characters() -> None:
    assert (shortened("a" * 80), len(shortened("a" * 81))) == ("a" * 80, 80)
