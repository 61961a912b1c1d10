"""The keys of stored files."""

import pytest

from longtake.storage.keys import KEY, key_in_url, new_key


@pytest.mark.parametrize(
    ("name", "kind", "suffix"),
    [
        ("Clip.MP4", "video/webm", ".mp4"),
        ("clip", "video/mp4; x=1", ".mp4"),
        ("clip", "no/such", ""),
        ("a.b c", "", ""),
        ("a", "application/manifest+json", ""),
        ("a.webmanifest", "video/mp4", ".mp4"),
        ("a.mp4\n", "no/such", ""),
    ],
)
def test_a_new_key_ends_with_the_suffix_of_the_file(name: str, kind: str, suffix: str) -> None:
    key = new_key(name, kind)
    assert KEY.fullmatch(key)
    assert key[32:] == suffix
    assert new_key(name, kind) != key


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("http://127.0.0.1:8000/cdn/files/abc.mp4", "abc.mp4"),
        ("https://v3.fal.media/files/abc.mp4?x=/files/other#y", "abc.mp4"),
        ("https://host/files/", None),
        ("https://host/file/abc.mp4", None),
        ("https://host/files/b/abc.mp4", None),
        ("ftp://host/files/abc.mp4", None),
        ("data:video/mp4;base64,/files/AAAA", None),
        ("http://[/files/abc.mp4", None),
        ("", None),
    ],
)
def test_the_key_in_a_url(url: str, key: str | None) -> None:
    assert key_in_url(url) == key
