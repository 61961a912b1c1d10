"""Who counts as one client of the server, and how many connections its files allow."""

import ipaddress

import pytest

from longtake import system
from longtake.service.connections import (
    RESERVED_FILES,
    Bounds,
    bounds,
    forwarded_address,
    forwarded_scheme,
    is_in,
    peer_of,
)

PROXY = (ipaddress.ip_network("127.0.0.1"),)


def test_a_peer_is_an_address_or_a_network_of_64_bits() -> None:
    assert peer_of("10.0.0.1") == "10.0.0.1"
    assert peer_of("::ffff:10.0.0.1") == "10.0.0.1"
    assert peer_of("2001:db8::1") == peer_of("2001:db8::ffff:0:0:2") == "2001:db8::/64"
    assert peer_of("2001:db8:0:1::1") != peer_of("2001:db8::1")
    assert peer_of("fe80::1%eth0") == "fe80::/64"
    assert peer_of("nonsense") == "unknown"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"10.0.0.1", "10.0.0.1"),
        (b"8.8.8.8, 10.0.0.1", "10.0.0.1"),
        (b"10.0.0.1, 127.0.0.1", "10.0.0.1"),
        (b"2001:db8::1", "2001:db8::1"),
        (b"10.0.0.1:8080, 127.0.0.1:80", "10.0.0.1"),
        (b"[2001:db8::1]:8080", "2001:db8::1"),
        (b"::ffff:10.0.0.1, ::ffff:127.0.0.1,", "10.0.0.1"),
        (b"fe80::1%" + b"x" * 60_000, "fe80::1"),
        (b"127.0.0.1", None),
        (b"", None),
        (b"10.0.0.1, unknown", None),
        (b"x" * 60_000, None),
        (b"10.0.0.1" + b",127.0.0.1" * 19, "10.0.0.1"),
        (b"10.0.0.1" + b",127.0.0.1" * 20, None),
    ],
)
def test_the_forwarded_address_is_the_last_that_is_no_proxy(header: bytes, expected: str | None) -> None:
    assert forwarded_address([(b"host", b"x"), (b"x-forwarded-for", header)], PROXY) == expected
    assert is_in("127.0.0.1", PROXY)
    assert not is_in("nonsense", PROXY)


@pytest.mark.parametrize(("values", "scheme"), [([b"https "], "https"), ([b"https", b"x"], None), ([], None)])
def test_the_forwarded_scheme_is_http_or_https(values: list[bytes], scheme: str | None) -> None:
    assert forwarded_scheme([(b"x-forwarded-proto", value) for value in values]) == scheme


def test_few_open_files_mean_few_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "allow_open_files", lambda wanted: min(wanted, 256))
    few = bounds(1000, 500)
    assert 2 * few.in_all + RESERVED_FILES <= 256
    assert few.per_peer < few.in_all
    assert bounds(10, 500) == Bounds(in_all=10, per_peer=5)
