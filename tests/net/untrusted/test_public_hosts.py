"""Where a URL may lead: to public addresses, however it is written."""

from ipaddress import ip_address

import pytest

from net import public_hosts
from tests.net.untrusted.hosts import PNG, Names, fetch, image, refusal
from tests.upstream import Upstream

PUBLIC = [
    "8.8.8.8",
    "93.184.216.34",
    "172.15.255.255",
    "172.32.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2a00:1450:4001:80b::200e",
    "2001:4860:4860::8888",
    "64:ff9b::808:808",  # NAT64 of 8.8.8.8, all that a network without IPv4 has.
]
NOT_PUBLIC = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::10.0.0.1",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::7f00:1",
    "64:ff9b:1::8.8.8.8",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",  # Teredo of 127.0.0.1.
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:a9fe:a9fe::1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]


def test_only_public_addresses_are_allowed() -> None:
    allowed = [each for each in PUBLIC + NOT_PUBLIC if public_hosts.is_allowed(ip_address(each))]

    assert allowed == PUBLIC


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "0.0.0.0", "[::]", "[::1]", "[::ffff:127.0.0.1]"]
)
def test_nothing_on_this_machine_is_asked(upstream: Upstream, host: str) -> None:
    upstream.script(default=image())

    assert "no public address" in refusal(f"http://{host}:{upstream.port}/a.png")
    assert upstream.counts()["received"] == 0


@pytest.mark.parametrize("addresses", [["127.0.0.1", "10.0.0.1"], ["10.0.0.1", "127.0.0.1"]])
def test_one_address_inside_is_enough_to_be_refused(
    upstream: Upstream, local: None, names: Names, addresses: list[str]
) -> None:
    names.say("images.example", addresses)

    assert "no public address" in refusal(f"http://images.example:{upstream.port}/")
    assert upstream.counts()["received"] == 0


def test_a_name_inside_looks_like_one_that_does_not_exist(names: Names) -> None:
    names.say("vault.internal", ["10.0.0.1"])

    assert refusal("http://vault.internal/") == refusal("http://nowhere.invalid/")


def test_the_connection_goes_to_the_address_that_was_checked(
    upstream: Upstream, local: None, names: Names
) -> None:
    names.say("images.example", ["127.0.0.1"], ["127.0.0.2"])
    upstream.script(image())

    fetch(f"http://images.example:{upstream.port}/a.png")

    assert names.asked == ["images.example"]
    (call,) = upstream.calls()
    assert call["headers"]["host"] == f"images.example:{upstream.port}"


def test_the_next_address_is_tried_where_one_does_not_answer(
    upstream: Upstream, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(public_hosts, "is_allowed", lambda address: True)
    names.say("images.example", ["127.0.0.2", "127.0.0.1"])
    upstream.script(image())

    assert fetch(f"http://images.example:{upstream.port}/").data == PNG


@pytest.mark.parametrize(
    "host",
    [
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0x7F.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.01",
        "127.0.0.1.",
        "127。0。0。1",
        "①27.0.0.1",
        "%31%32%37.0.0.1",
        "[::ffff:127.0.0.1%25lo]",
        "[127.0.0.1]",
        "[127.0.0.1]a",
        "[v1.localhost]",
        "[::1]a",
        "::1",
        "localhost.",
        "",
        "a..b",
        "a" * 64 + ".example",
        "*.example",
    ],
)
def test_a_host_that_readers_read_differently_is_refused(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr(public_hosts, "is_allowed", lambda address: True)
    upstream.script(default=image())

    message = refusal(f"http://{host}:{upstream.port}/a.png")

    assert "has no valid host" in message or "is not a valid URL" in message
    assert upstream.counts()["received"] == 0


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("ftp://127.0.0.1:{port}/", "http:// or https://"),
        ("file:///etc/passwd", "http:// or https://"),
        ("//127.0.0.1:{port}/", "http:// or https://"),
        ("http:/a.png", "no valid host"),
        ("http://user:secret@127.0.0.1:{port}/", "user name"),
        ("http://user@127.0.0.1:{port}/", "user name"),
        ("http://@127.0.0.1:{port}/", "user name"),
        ("http://images.example@127.0.0.1:{port}/", "user name"),
        ("http://127.0.0.1:{port}\\@images.example/", "backslash"),
        ("http://127.0.0.1:{port}/a b", "space"),
        (" http://127.0.0.1:{port}/", "space"),
        ("http://127.0.0.1:{port}/\r\nx-key: 1", "space"),
        ("http://127.0.0.1:{port}/\t", "space"),
        ("http://127.0.0.1:{port}0000/", "not a valid URL"),
        ("http://127.0.0.1:x/", "not a valid URL"),
        ("http://[::1/", "not a valid URL"),
    ],
)
def test_a_url_with_more_in_it_than_a_place_is_refused(
    upstream: Upstream, local: None, url: str, told: str
) -> None:
    upstream.script(default=image())

    message = refusal(url.format(port=upstream.port))

    assert told in message
    assert "secret" not in message
    assert upstream.counts()["received"] == 0


def test_what_is_not_ascii_in_a_path_is_escaped(upstream: Upstream, local: None) -> None:
    upstream.script(image())

    fetch(f"{upstream.url}/ä%20b?c=€&d=%2F#e")

    assert upstream.calls()[0]["path"] == "/%C3%A4%20b?c=%E2%82%AC&d=%2F"
