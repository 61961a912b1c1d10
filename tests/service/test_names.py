"""Application ids in paths."""

import pytest

from longtake.service.names import Address, Name, address, belongs, name

LONG = "fal-ai/ltx-2.3-22b/extend-video"


@pytest.mark.parametrize(
    ("full", "app"),
    [
        ("a/b", "a/b"),
        ("a/b/c/d", "a/b"),
        ("/a/b/c/", "a/b"),
        ("workflows/me/flow/x", "workflows/me/flow"),
        ("comfy/me/flow", "comfy/me/flow"),
        (LONG, "fal-ai/ltx-2.3-22b"),
    ],
)
def test_the_path_below_the_alias_is_dropped(full: str, app: str) -> None:
    assert name(full) == Name(app, full.strip("/"))


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/a/b/requests/1-2", Address("a/b", "1-2", "")),
        ("/a/b/requests/1/status", Address("a/b", "1", "/status")),
        ("/a/b/c/requests/1/status/stream", Address("a/b/c", "1", "/status/stream")),
        ("/workflows/a/b/requests/1/cancel", Address("workflows/a/b", "1", "/cancel")),
        ("/a/b", None),
        ("/a/b/requests", None),
        ("/requests/1", None),
        ("/a/b/requests/1%2/status", None),
        ("/a/b/requests/" + "1" * 65, None),
    ],
)
def test_requests_by_their_path(path: str, told: Address | None) -> None:
    assert address(path) == told


def test_a_request_belongs_to_its_short_and_its_full_name() -> None:
    assert belongs(LONG, LONG)
    assert belongs(LONG, "fal-ai/ltx-2.3-22b")
    assert not belongs(LONG, "fal-ai")
    assert not belongs(LONG, "fal-ai/ltx-2.3-22b/other")
