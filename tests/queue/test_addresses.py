"""Where requests go, and the addresses that answers name."""

import pytest

from longtake.queue.addresses import HOSTS, Place, Service, base_of, is_host, place, sibling

FAL = ["queue.fal.run", "queue.fal.run:443", "Queue.Fal.Run"]


@pytest.mark.parametrize(
    ("host", "path", "there"),
    [
        ("localhost:8000", "/queue/fal-ai/x/y", Place("queue", "/fal-ai/x/y")),
        ("localhost:8000", "/run/fal-ai/x", Place("run", "/fal-ai/x")),
        ("[::1]:8000", "/cdn/files/a", Place("cdn", "/files/a")),
        ("10.0.0.1", "/rest", Place("rest", "/")),
        ("localhost", "/v1/models", Place(None, "/v1/models")),
        ("localhost", "/", Place(None, "/")),
        ("localhost", "/queues/x", Place(None, "/queues/x")),
        *((host, "/queue/x", Place("queue", "/queue/x")) for host in FAL),
        *((host, "/run/x", Place(service, "/run/x")) for host, service in HOSTS.items()),
        ("fal.run.evil.com", "/x", Place(None, "/x")),
    ],
)
def test_the_service_is_known_by_host_else_by_prefix(host: str, path: str, there: Place) -> None:
    assert place(host, path) == there


@pytest.mark.parametrize("host", FAL)
def test_fals_hosts_are_named_as_fal_does(host: str) -> None:
    base = base_of("queue", scheme="http", host=host, public_url="https://video.example.com")
    assert base == "https://queue.fal.run"
    assert sibling(base, "cdn") == "https://v3.fal.media"
    assert sibling(sibling(base, "rest"), "queue") == base


@pytest.mark.parametrize(
    ("public_url", "root"),
    [(None, "http://localhost:8000"), ("https://video.example.com/fal/", "https://video.example.com/fal")],
)
def test_prefixes_stand_on_the_host_that_was_called_or_the_public_one(public_url: str | None, root: str) -> None:
    base = base_of("run", scheme="http", host="localhost:8000", public_url=public_url)
    assert base == f"{root}/run"
    services: tuple[Service, ...] = ("run", "queue", "rest", "cdn")
    for service in services:
        assert sibling(base, service) == f"{root}/{service}"


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
    assert is_host(host) is good
