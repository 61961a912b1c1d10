"""Where requests go, and the addresses that answers name."""

import pytest

from longtake.queue.addresses import HOSTS, Destination, Service, base_url, destination, is_valid_host, sibling_url

FAL = ["queue.fal.run", "queue.fal.run:443", "Queue.Fal.Run"]


@pytest.mark.parametrize(
    ("host", "path", "there"),
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
def test_the_service_is_known_by_host_else_by_prefix(host: str, path: str, there: Destination) -> None:
    assert destination(host, path) == there


@pytest.mark.parametrize("host", FAL)
def test_fals_hosts_are_named_as_fal_does(host: str) -> None:
    base = base_url("queue", scheme="http", host=host, public_url="https://video.example.com")
    assert base == "https://queue.fal.run"
    assert sibling_url(base, "cdn") == "https://v3.fal.media"
    assert sibling_url(sibling_url(base, "rest"), "queue") == base


@pytest.mark.parametrize(
    ("public_url", "root"),
    [(None, "http://localhost:8000"), ("https://video.example.com/fal/", "https://video.example.com/fal")],
)
def test_prefixes_stand_on_the_host_that_was_called_or_the_public_one(public_url: str | None, root: str) -> None:
    base = base_url("run", scheme="http", host="localhost:8000", public_url=public_url)
    assert base == f"{root}/run"
    services: tuple[Service, ...] = ("run", "queue", "rest", "cdn")
    for service in services:
        assert sibling_url(base, service) == f"{root}/{service}"


@pytest.mark.parametrize(
    ("host", "good"),
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
def test_only_a_host_is_a_host(host: str, good: bool) -> None:
    assert is_valid_host(host) is good
