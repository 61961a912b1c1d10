"""The URLs of services and requests."""

import pytest

from longtake.queue.addresses import (
    HOSTS,
    Destination,
    RequestPath,
    Service,
    app_name,
    base_url,
    destination,
    is_file_url,
    is_valid_host,
    names_endpoint,
    request_path,
    sibling_url,
)

LONG = "fal-ai/ltx-2.3-22b/extend-video"
FAL = ["queue.fal.run", "queue.fal.run:443", "Queue.Fal.Run"]


@pytest.mark.parametrize(
    ("host", "path", "expected"),
    [
        ("localhost:8000", "/queue/fal-ai/x/y", Destination("queue", "/fal-ai/x/y")),
        ("localhost:8000", "/run/fal-ai/x", Destination("run", "/fal-ai/x")),
        ("[::1]:8000", "/cdn/files/a", Destination("cdn", "/files/a")),
        ("10.0.0.1", "/rest", Destination("rest", "/")),
        ("localhost", "/v1/models", Destination(None, "/v1/models")),
        ("localhost", "/", Destination(None, "/")),
        ("localhost", "/queues/x", Destination(None, "/queues/x")),
        *((host, "/queue/x", Destination("queue", "/queue/x")) for host in FAL),
        *((host, "/run/x", Destination(service, "/run/x")) for host, service in HOSTS.items()),
        ("fal.run.evil.com", "/x", Destination(None, "/x")),
    ],
)
def test_the_service_is_found_by_host_or_path_prefix(host: str, path: str, expected: Destination) -> None:
    assert destination(host, path) == expected


@pytest.mark.parametrize("host", FAL)
def test_urls_for_fals_hosts_are_fals_own(host: str) -> None:
    base = base_url("queue", scheme="http", host=host, public_url="https://video.example.com")
    assert base == "https://queue.fal.run"
    assert sibling_url(base, "cdn") == "https://v3.fal.media"
    assert sibling_url(sibling_url(base, "rest"), "queue") == base


@pytest.mark.parametrize(
    ("public_url", "root"),
    [(None, "http://localhost:8000"), ("https://video.example.com/fal/", "https://video.example.com/fal")],
)
def test_other_urls_are_prefixes_of_the_called_or_the_public_host(public_url: str | None, root: str) -> None:
    base = base_url("run", scheme="http", host="localhost:8000", public_url=public_url)
    assert base == f"{root}/run"
    services: tuple[Service, ...] = ("run", "queue", "rest", "cdn")
    for service in services:
        assert sibling_url(base, service) == f"{root}/{service}"


@pytest.mark.parametrize(
    ("host", "is_valid"),
    [
        ("localhost", True),
        ("localhost:8000", True),
        ("[::1]:8000", True),
        ("", False),
        ("a b", False),
        ("a/b", False),
        ("a@b", False),
        ('a"b', False),
        ("localhost:port", False),
        ("x" * 300, False),
    ],
)
def test_malformed_hosts_are_recognized(host: str, is_valid: bool) -> None:
    assert is_valid_host(host) is is_valid


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [
        ("a/b", "a/b"),
        ("a/b/c/d", "a/b"),
        ("/a/b/c/", "a/b"),
        ("workflows/me/flow/x", "workflows/me/flow"),
        ("comfy/me/flow", "comfy/me/flow"),
        (LONG, "fal-ai/ltx-2.3-22b"),
    ],
)
def test_an_applications_name_has_no_path_below_the_alias(endpoint: str, name: str) -> None:
    assert app_name(endpoint) == name


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a/b/requests/1-2", RequestPath("a/b", "1-2", "")),
        ("/a/b/requests/1/status", RequestPath("a/b", "1", "/status")),
        ("/a/b/c/requests/1/status/stream", RequestPath("a/b/c", "1", "/status/stream")),
        ("/workflows/a/b/requests/1/cancel", RequestPath("workflows/a/b", "1", "/cancel")),
        ("/a/b", None),
        ("/a/b/requests", None),
        ("/requests/1", None),
        ("/a/b/requests/1%2/status", None),
        ("/a/b/requests/" + "1" * 65, None),
        ("/a/b/requests/1/status\n", RequestPath("a/b", "1", "/status\n")),
        ("//requests/1", None),
        ("a/requests/1", None),
    ],
)
def test_request_paths(path: str, expected: RequestPath | None) -> None:
    assert request_path(path) == expected


def test_a_request_is_found_under_its_applications_name_and_its_endpoints_id() -> None:
    assert names_endpoint(LONG, LONG)
    assert names_endpoint("fal-ai/ltx-2.3-22b", LONG)
    assert not names_endpoint("fal-ai", LONG)
    assert not names_endpoint("fal-ai/ltx-2.3-22b/other", LONG)


@pytest.mark.parametrize(
    ("url", "base", "expected"),
    [
        ("http://127.0.0.1:8000/cdn/files/abc.mp4", "http://127.0.0.1:8000/queue", True),
        ("http://localhost:8000/cdn/files/abc.mp4", "http://127.0.0.1:8000/queue", True),
        ("https://box.example/video/cdn/files/abc.mp4", "https://box.example/video/queue", True),
        ("https://v3.fal.media/files/abc.mp4", "https://queue.fal.run", True),
        ("https://v3b.fal.media/files/abc.mp4", "https://queue.fal.run", True),
        ("http://127.0.0.1:8001/cdn/files/abc.mp4", "http://127.0.0.1:8000/queue", False),
        ("http://other.example/cdn/files/abc.mp4", "http://box.example/queue", False),
        ("http://127.0.0.1:8000/cdn/files/", "http://127.0.0.1:8000/queue", False),
        ("http://127.0.0.1:8000/page", "http://127.0.0.1:8000/queue", False),
        ("https://v3.fal.media/files/abc.mp4", "http://127.0.0.1:8000/queue", False),
        ("https://v3b.fal.media/files/b/0a8824b1/abc.mp4", "https://queue.fal.run", False),
        ("http://[::1/cdn/files/a", "http://127.0.0.1:8000/queue", False),
        ("http://127.0.0.1:none/cdn/files/a", "http://127.0.0.1:8000/queue", False),
    ],
)
def test_the_urls_of_a_server_s_own_files_are_recognised(url: str, base: str, expected: bool) -> None:
    assert is_file_url(url, base) == expected
