"""Which addresses are allowed, and which belong to the open internet."""

from __future__ import annotations

import pytest

from fastav_plugin.serving.media.download import download, is_public
from fastav_plugin.serving.media.policy import MediaError, MediaPolicy


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://b.org/", "'b.org:80' is not among"),
        ("http://a.org:8080/", "'a.org:8080' is not among"),
        ("https://a.org.evil.org/", "not among"),
        ("http://a.org@evil.org/", "user name"),
        ("http://evil.org#a.org", "not among"),
        ("http://[::1]/", "not among"),
        ("http://[::1/", "malformed"),
        ("http://a.org:99999/", "malformed"),
        ("http:///path", "must be http"),
        ("http://" + "a" * 70 + ".org/", "malformed"),
        ("http://a.org/a b", "percent-encoded"),
        ("http://a.org/\u00e9", "percent-encoded"),
    ],
)
def test_addresses(url: str, why: str) -> None:
    with pytest.raises(MediaError, match=why):
        download(url, MediaPolicy(allowed_hosts=frozenset({"a.org"})))


def test_no_host_is_allowed_by_default() -> None:
    with pytest.raises(MediaError, match="not among"):
        download("https://huggingface.co/picture.png", MediaPolicy())


def test_a_name_without_an_address() -> None:
    policy = MediaPolicy(allowed_hosts=frozenset({"nothing.invalid"}))
    with pytest.raises(MediaError, match="has no address"):
        download("http://NOTHING.invalid./", policy)


@pytest.mark.parametrize(
    "address",
    """0.0.0.0 0.1.2.3 10.1.2.3 100.64.0.1 127.0.0.1 127.255.255.254 169.254.169.254 172.16.0.1
    192.0.0.1 192.0.2.1 192.168.1.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 239.1.1.1
    240.0.0.1 255.255.255.255 :: ::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254
    ::7f00:1 fe80::1 fe80::1%eth0 fc00::1 fd12::1 fec0::1 ff02::1 2001:db8::1 2001::1
    2002:7f00:1:: 2002:a00:1:: 2002:808:808:: 64:ff9b::a00:1 64:ff9b:1::a00:1 100::1 4000::1
    192.0.0.8 192.0.0.9 192.88.99.1 ::ffff:192.88.99.1 64:ff9b::c058:6301 2001:1::1 2001:3::1
    2001:20::1 2001:30::1 3fff::1 3fff:fff::1 5f00::1 ::ffff:0:7f00:1""".split(),
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    "8.8.8.8 1.1.1.1 172.32.0.1 2606:4700::1111 ::ffff:8.8.8.8 64:ff9b::808:808".split(),
)
def test_public_addresses(address: str) -> None:
    assert is_public(address)
