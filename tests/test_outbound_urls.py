"""Which addresses are public, and which URLs are accepted."""

import ipaddress
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.errors import InvalidRequest
from longtake.outbound import check_url, is_public
from tests import hostile

PUBLIC = ["93.184.215.14", "8.8.8.8", "1.1.1.1", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "2a00:1450:4001::1"]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", hostile.NOT_PUBLIC)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@given(address=st.ip_addresses())
def test_an_address_that_the_standard_library_calls_private_is_not_public(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if is_public(str(address)):
        assert address.is_global
        assert not any((address.is_multicast, address.is_reserved, address.is_link_local, address.is_unspecified))
        if isinstance(address, ipaddress.IPv6Address):
            assert (address.ipv4_mapped, address.sixtofour, address.teredo) == (None, None, None)


@pytest.mark.parametrize("address", ["", "example.com", "127.1", "0x7f000001", "1.2.3.4.5", "[::1]"])
def test_text_that_is_no_address_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/hook",
        "http://example.com",
        "https://example.com.:8443/a/b?c=http://127.0.0.1/@#@x",
        "https://b\u00fccher.example/",
        "https://my_service.example/",
        "https://8.8.8.8:1/",
        "https://[2606:4700::1111]/",
        "HTTPS://EXAMPLE.COM/",
        "https://3com.example/",
        "https://example.com/a@b",
    ],
)
def test_accepted_urls(url: str) -> None:
    assert check_url(url).scheme in ("http", "https")


@pytest.mark.parametrize(("url", "words"), hostile.BAD, ids=[repr(url)[:40] for url, _ in hostile.BAD])
def test_refused_urls(url: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words) as caught:
        check_url(url)
    assert len(caught.value.message) < 400


@given(text=st.text(max_size=40), head=st.sampled_from(["", "http://", "https://", "http://a", "http://127.0.0.1"]))
def test_any_text_is_accepted_or_refused(text: str, head: str) -> None:
    try:
        url = check_url(head + text)
    except InvalidRequest:
        return
    host = url.raw_host.decode()
    assert is_public(host) or set(host) <= set(string.ascii_lowercase + string.digits + "-_.")


def test_a_trusted_address_is_accepted() -> None:
    url = "http://10.0.0.5:8000/hook"
    assert check_url(url, ["10.0.0.5"]).host == "10.0.0.5"
    assert check_url("http://10.0.0.5:9/", ["10.0.0.5"]).port == 9
    with pytest.raises(InvalidRequest):
        check_url(url, ["10.0.0.6", "0.0.5", "5"])
