"""The names of files in a repository, and whether the hub may be asked at all."""

import pytest

from longtake.errors import DownloadFailed
from longtake.models.hub_access import HubAccess, is_plain
from longtake.settings import Settings


@pytest.mark.parametrize("name", ["a.json", "vae/a.json", "a b/c-1.txt", "é.json", ".gitattributes", "a" * 255])
def test_plain_paths(name: str) -> None:
    assert is_plain(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "a/../b",
        "a\\b",
        "a\0",
        "a\nb",
        "\u202ea",
        "\ud800",
        "a" * 256,
        "a/" * 300 + "b",
    ],
)
def test_names_that_are_no_plain_paths(name: str) -> None:
    assert not is_plain(name)


def test_the_hub_is_not_asked_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    HubAccess("some/model", Settings(), None, None).check_online()
    with pytest.raises(DownloadFailed, match="some/model: LONGTAKE_OFFLINE is set"):
        HubAccess("some/model", Settings(offline=True), None, None).check_online()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadFailed, match="some/model: HF_HUB_OFFLINE is set"):
        HubAccess("some/model", Settings(), None, None).check_online()
