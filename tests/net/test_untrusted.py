"""Images by URL: what is fetched, and all that is not, from servers nobody should trust.

Those that callers named come first, then those that providers made.
"""

import base64
import gzip
import socket
import ssl
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self

import pytest

from models.errors import (
    InvalidRequest,
    JobCancelled,
    LikeDoError,
    ProviderFailed,
    ProviderTimeout,
    Unavailable,
)
from net import connection as net_connection
from net import public_hosts, untrusted
from net.call import Call
from providers.wire import caller_images, result_images
from providers.wire.caller_images import Media
from providers.wire.spooling import SpooledImage
from tests.stack import wait_until
from tests.upstream import ROOT, Step, Upstream

PARAM = "messages[0].content[1].image_url.url"
CANCELLED = JobCancelled("The job was cancelled.")
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
#: More than anything here takes: what hangs is a failure, not a wait.
PATIENCE_SECONDS = 60.0


def image(data: bytes = PNG, **more: Any) -> Step:
    return {"body_base64": base64.b64encode(data).decode()} | more


def redirect(location: str, status: int = 302) -> Step:
    return {"status": status, "headers": {"location": location}, "body": ""}


def head(*lines: str, status: int = 200) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} Said", *lines, "", ""]).encode()


def plain(data: bytes) -> bytes:
    return head(f"content-length: {len(data)}") + data


def chunked(*pieces: bytes) -> bytes:
    """Return an answer in chunks, without the empty line that ends its trailers."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return head("transfer-encoding: chunked") + body + b"0\r\n"


def fetch(url: str, call: Call | None = None) -> Media:
    return caller_images.fetch(call or Call(60), url, PARAM)


def refusal(url: str, call: Call | None = None) -> str:
    """Return what the caller is told who named `url`."""
    with pytest.raises(InvalidRequest) as raised:
        fetch(url, call)
    assert type(raised.value) is InvalidRequest
    assert raised.value.param == PARAM
    return raised.value.message


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let 127.0.0.1 be a public address, and no other."""
    monkeypatch.setattr(public_hosts, "is_allowed", lambda address: str(address) == "127.0.0.1")


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the 20 seconds be one."""
    monkeypatch.setattr(caller_images, "FETCH_SECONDS", 1.0)


class Names:
    """The names that are known, and which of them were looked up."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.begun, self.end = threading.Event(), threading.Event()
        self._answers: dict[str, list[list[str]]] = {}
        self._real = socket.getaddrinfo

    def say(self, name: str, *answers: list[str]) -> None:
        """Answer with one list of addresses after the other, and with the last for ever."""
        self._answers[name] = list(answers)

    def look_up(self, host: str, port: int, *args: Any, **kwargs: Any) -> list[Any]:
        if host[0].isdecimal() or ":" in host:
            return self._real(host, port, *args, **kwargs)
        self.asked.append(host)
        if host == "silent.example":
            self.begun.set()
            self.end.wait()
        answers = self._answers.get(host)
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [line for one in addresses for line in self._real(one, port, *args, **kwargs)]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    """The servers of names, which are the world's."""
    found = Names()
    monkeypatch.setattr(socket, "getaddrinfo", found.look_up)
    yield found
    found.end.set()


class Host:
    """A server that says the same bytes to everybody and remembers how many of them it got rid of.

    With a `gap` they go out one by one, so many seconds apart.
    """

    def __init__(
        self,
        *pieces: bytes,
        gap: float | None = None,
        files: tuple[Path, Path] | None = None,
        then_wait: bool = False,
    ) -> None:
        self.sent = 0
        self.requests: list[bytes] = []
        self._pieces, self._gap, self._then_wait = pieces, gap, then_wait
        self._scheme, self._context = "http", None
        if files:
            self._scheme, self._context = "https", ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(*files)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def url(self, host: str = "127.0.0.1") -> str:
        return f"{self._scheme}://{host}:{self._listener.getsockname()[1]}/a"

    def _serve(self) -> None:
        while not self._closed.is_set():
            with suppress(OSError):
                sock, _ = self._listener.accept()
                with sock:
                    self._answer(sock)

    def _answer(self, sock: socket.socket) -> None:
        if self._context is not None:
            sock = self._context.wrap_socket(sock, server_side=True)
        with sock:
            self.requests.append(sock.recv(65536))
            for piece in self._pieces:
                self._say(sock, piece)
            if self._then_wait:
                sock.recv(1)

    def _say(self, sock: socket.socket, piece: bytes) -> None:
        size = len(piece) if self._gap is None else 1
        for start in range(0, len(piece), size):
            sock.sendall(piece[start : start + size])
            self.sent += size
            self._closed.wait(self._gap or 0)


# ---- What is an image


def box(*brands: bytes) -> bytes:
    """Return the first box of a file in the family of ISO's formats, the major brand first."""
    named = brands[0] + bytes(4) + b"".join(brands[1:])
    return (8 + len(named)).to_bytes(4, "big") + b"ftyp" + named + b"heicavif" * 9


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "image/jpeg"),
        (b"\xff\xd8\xff\xdb", "image/jpeg"),
        (b"RIFF\n\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"GIF87a\x01", "image/gif"),
        (b"GIF89a\x01", "image/gif"),
        (box(b"heic", b"mif1"), "image/heic"),
        (box(b"heix"), "image/heic"),
        (box(b"mif1", b"miaf", b"heic"), "image/heic"),
        (box(b"mif1", b"miaf"), "image/heif"),
    ],
)
def test_the_bytes_say_what_an_image_is(
    upstream: Upstream, local: None, data: bytes, media_type: str
) -> None:
    upstream.script(image(data, headers={"content-type": "text/html"}))

    assert fetch(upstream.url) == Media(media_type, data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG",
        b"\xff\xd8",
        b"<html>",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"BM\x00\x00",
        b"%PDF-1.7",
        b"RIFF\x00\x00\x00\x00WAVE",
        b" " + PNG,
        box(b"avif", b"mif1", b"heic"),
        box(b"mif1", b"avif"),
        box(b"isom", b"mp42"),
    ],
)
def test_what_is_no_image_is_refused(upstream: Upstream, local: None, data: bytes) -> None:
    upstream.script(image(data, headers={"content-type": "image/png"}))

    assert "is not a PNG" in refusal(upstream.url)


@pytest.mark.parametrize("status", [201, 204, 206, 300, 304, 401, 404, 500, 503])
def test_only_200_is_an_image(upstream: Upstream, local: None, status: int) -> None:
    upstream.script(image(status=status))

    assert f"status {status}" in refusal(upstream.url)


# ---- Where it may be


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


# ---- What is sent


def test_a_request_says_nothing_of_us_or_the_caller(
    upstream: Upstream, local: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    cookie = {"set-cookie": "a=b; Path=/", "location": "/b"}
    upstream.script({"status": 302, "headers": cookie}, image())

    fetch(f"{upstream.url}/a")

    assert upstream.counts()["received"] == 2
    for call in upstream.calls():
        assert (call["method"], call["body"]) == ("GET", None)
        assert call["headers"] == {
            "host": f"127.0.0.1:{upstream.port}",
            "accept": "image/*",
            "accept-encoding": "identity",
            "user-agent": "likedo/1",
        }


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_of_the_environment_is_not_used(
    upstream: Upstream, local: None, names: Names, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    names.say("images.example", ["127.0.0.1"])
    upstream.script(image())

    assert fetch(f"http://images.example:{upstream.port}/").data == PNG
    assert upstream.calls()[0]["target"] == "/"


# ---- Where it leads


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed(upstream: Upstream, local: None, status: int) -> None:
    upstream.script(redirect("b?c#d", status), image())

    assert fetch(f"{upstream.url}/x/a").data == PNG
    assert [call["path"] for call in upstream.calls()] == ["/x/a", "/x/b?c"]


def test_a_redirect_may_be_written_in_any_bytes(upstream: Upstream, local: None) -> None:
    upstream.script(redirect("/ä%20b?c=€%2F"), image())

    assert fetch(upstream.url).data == PNG
    assert upstream.calls()[1]["path"] == "/%C3%A4%20b?c=%E2%82%AC%2F"


def test_a_third_redirect_is_followed_and_no_fourth(upstream: Upstream, local: None) -> None:
    upstream.script(*[redirect("/next")] * 3, image())
    assert fetch(upstream.url).data == PNG

    upstream.script(*[redirect("/next")] * 4, image())
    assert "more than 3 times" in refusal(upstream.url)
    assert upstream.counts()["received"] == 8


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("http://127.0.0.2:{port}/", "no public address"),
        ("http://10.0.0.1/", "no public address"),
        ("//169.254.169.254/latest/meta-data", "no public address"),
        ("http://inside.example:{port}/", "no public address"),
        ("http://127.1:{port}/", "no valid host"),
        ("http://a:b@127.0.0.1:{port}/", "user name"),
        ("file:///etc/passwd", "http:// or https://"),
        ("gopher://127.0.0.1:{port}/", "http:// or https://"),
        ("http://127.0.0.1:{port}/a b", "space"),
        ("http://[", "not a valid URL"),
        ("http://127.0.0.1:99999/", "not a valid URL"),
        ("", "nowhere"),
    ],
)
def test_where_a_redirect_leads_is_checked_anew(
    upstream: Upstream, local: None, names: Names, location: str, told: str
) -> None:
    names.say("inside.example", ["127.0.0.2"])
    location = location.format(port=upstream.port)
    upstream.script(redirect(location), image())

    message = refusal(upstream.url)

    assert told in message
    assert not location or location not in message
    assert upstream.counts()["received"] == 1


def test_a_name_that_moves_inside_between_redirects_is_refused(
    upstream: Upstream, local: None, names: Names
) -> None:
    names.say("images.example", ["127.0.0.1"], ["127.0.0.2"])
    upstream.script(redirect("/b"), image())

    assert "no public address" in refusal(f"http://images.example:{upstream.port}/")
    assert upstream.counts()["received"] == 1


# ---- TLS


@pytest.fixture
def trusted(
    certificate: tuple[Path, Path], names: Names, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Path, Path]]:
    """A certificate for `images.example` that the environment trusts."""
    for name in ("images.example", "other.example"):
        names.say(name, ["127.0.0.1"])
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    net_connection.forget_connections()
    yield certificate
    net_connection.forget_connections()


def test_a_certificate_is_verified_against_the_name_and_not_the_address(
    local: None, trusted: tuple[Path, Path]
) -> None:
    with Host(plain(PNG), files=trusted) as host:
        assert fetch(host.url("images.example")).data == PNG
        assert fetch(host.url("127.0.0.1")).data == PNG
        assert refusal(host.url("other.example")) == caller_images.UNREACHABLE

    assert len(host.requests) == 2


def test_a_certificate_that_nobody_vouches_for_is_refused(
    local: None, trusted: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    net_connection.forget_connections()

    with Host(plain(PNG), files=trusted) as host:
        assert refusal(host.url("images.example")) == caller_images.UNREACHABLE

    assert host.requests == []


def test_a_redirect_may_lead_to_https_and_not_back(
    upstream: Upstream, local: None, trusted: tuple[Path, Path]
) -> None:
    upstream.script(default=image())
    with Host(head(f"location: {upstream.url}/b", status=302), files=trusted) as host:
        upstream.script(redirect(host.url("images.example")))

        assert "from https to http" in refusal(upstream.url)

    assert [len(host.requests), upstream.counts()["received"]] == [1, 1]


# ---- How much


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> int:
    """Let the largest image have 100,000 bytes."""
    monkeypatch.setattr(caller_images, "MAX_BYTES", 100_000)
    return 100_000


@pytest.mark.parametrize("framing", [{}, {"chunked": True}, {"chunked": True, "split": 999}])
def test_an_image_may_be_so_large_and_not_a_byte_larger(
    upstream: Upstream, local: None, small: int, framing: Step
) -> None:
    largest = PNG.ljust(small, b".")
    upstream.script(image(largest, **framing), image(largest + b".", **framing))

    assert fetch(upstream.url).data == largest
    assert refusal(upstream.url) == caller_images.TOO_LARGE


def test_one_byte_more_is_read_and_no_other(upstream: Upstream) -> None:
    upstream.script({"size": 1000})
    addresses = untrusted.resolve(Call(60), "127.0.0.1", upstream.port)

    with untrusted.get(Call(60), upstream.url, addresses, {}, 10) as answer:
        assert len(answer.at_most(10)) == 11


def test_an_image_may_have_20_mib(local: None) -> None:
    largest = PNG.ljust(20 * 1024 * 1024, b".")

    with Host(plain(largest)) as host:
        assert fetch(host.url()).data == largest
    with Host(head() + largest + b".") as host:
        assert refusal(host.url()) == caller_images.TOO_LARGE


def test_what_is_announced_as_too_large_is_not_waited_for(local: None, hurried: None) -> None:
    for length in (caller_images.MAX_BYTES + 1, 10**30, "9" * 5000):
        with Host(head(f"content-length: {length}"), then_wait=True) as host:
            assert refusal(host.url()) == caller_images.TOO_LARGE


def test_what_follows_the_announced_bytes_is_not_taken(local: None) -> None:
    with Host(plain(PNG), b"." * 10**6, then_wait=True) as host:
        assert fetch(host.url()).data == PNG


def test_fewer_bytes_than_announced_are_refused(local: None) -> None:
    with Host(plain(PNG)[:-1]) as host:
        assert refusal(host.url()) == caller_images.UNREACHABLE


@pytest.mark.parametrize(
    "piece",
    [
        pytest.param(b"%x\r\n%s\r\n" % (2**20, bytes(2**20)), id="in-chunks"),
        pytest.param(b"%x\r\n%s\r\n" % (2**30, bytes(2**20)), id="in-one-large-chunk"),
    ],
)
def test_an_image_without_end_is_left_at_the_limit(local: None, piece: bytes) -> None:
    with Host(head("transfer-encoding: chunked"), *[piece] * 60) as host:
        assert refusal(host.url()) == caller_images.TOO_LARGE

    # The limit, and what fits into the buffers of two sockets.
    assert host.sent < 40 * 2**20


@pytest.mark.parametrize(
    ("pieces", "end"),
    [
        pytest.param([b"HTTP/1.1 100 Continue\r\n\r\n" * 1000] * 120, plain(PNG), id="interim"),
        pytest.param([chunked(PNG), *[b"a: b\r\n" * 5000] * 120], b"\r\n", id="trailers"),
    ],
)
def test_what_comes_beside_the_image_counts_too(
    local: None, small: int, pieces: list[bytes], end: bytes
) -> None:
    """http.client skips it, and would for as long as it comes."""
    with Host(*pieces, end) as host:
        assert refusal(host.url()) == caller_images.UNREACHABLE
    with Host(pieces[0], end) as host:
        assert fetch(host.url()).data == PNG


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity, gzip", "x"])
def test_a_compressed_image_is_refused(upstream: Upstream, local: None, encoding: str) -> None:
    squeezed = gzip.compress(PNG)
    upstream.script(image(squeezed, headers={"content-encoding": encoding}))

    assert "compresses" in refusal(upstream.url)


def test_a_compressed_image_that_does_not_say_so_is_none(upstream: Upstream, local: None) -> None:
    upstream.script(image(gzip.compress(PNG)), image(headers={"content-encoding": "Identity"}))

    assert "is not a PNG" in refusal(upstream.url)
    assert fetch(upstream.url).data == PNG


# ---- How long

SLOW = [
    pytest.param({"delay": 60}, id="before-the-headers"),
    pytest.param({"body_delay": 60}, id="after-the-headers"),
    pytest.param({"dribble": " ", "gap": 0.01}, id="while-reading"),
]


@pytest.mark.parametrize("step", SLOW)
def test_an_image_comes_in_time_or_not_at_all(
    upstream: Upstream, local: None, hurried: None, step: Step
) -> None:
    upstream.script(step)

    assert refusal(upstream.url) == caller_images.LATE
    upstream.wait(aborted=1)


def test_the_redirects_are_part_of_the_time(upstream: Upstream, local: None, hurried: None) -> None:
    upstream.script(*[redirect("/next") | {"delay": 0.4}] * 3, image())

    assert refusal(upstream.url) == caller_images.LATE


def test_headers_that_trickle_are_part_of_the_time(local: None, hurried: None) -> None:
    with Host(head("a: " + "b" * 200) + PNG, gap=0.02) as host:
        assert refusal(host.url()) == caller_images.LATE


def test_the_look_up_is_part_of_the_time(names: Names, hurried: None) -> None:
    assert refusal("http://silent.example/") == caller_images.LATE


def test_a_look_up_ends_with_the_deadline_of_its_call(names: Names) -> None:
    with pytest.raises(ProviderTimeout):
        untrusted.resolve(Call(0.1), "silent.example", 80)

    # The look-up itself has not ended, and would not.
    assert names.begun.is_set() and not names.end.is_set()


def test_names_that_nobody_answers_for_take_few_threads(names: Names, hurried: None) -> None:
    outcomes = [Outcome(Call(60), "http://silent.example/") for _ in range(3 * untrusted.LOOKUPS)]

    for outcome in outcomes:
        assert isinstance(outcome.at_last(), InvalidRequest)
    assert len(names.asked) == untrusted.LOOKUPS

    waiting = [
        thread for thread in threading.enumerate() if thread.name == "look up silent.example"
    ]
    assert len(waiting) == len(outcomes)
    names.end.set()
    for thread in waiting:
        thread.join()
    assert len(names.asked) == untrusted.LOOKUPS


@pytest.mark.parametrize("step", SLOW)
def test_the_deadline_of_the_call_is_the_calls_own(
    upstream: Upstream, local: None, step: Step
) -> None:
    upstream.script(step)

    with pytest.raises(ProviderTimeout):
        fetch(upstream.url, Call(1))

    upstream.wait(aborted=1)


def test_a_call_that_is_over_asks_for_nothing(
    names: Names,
) -> None:
    aborted = Call(60)
    aborted.abort(CANCELLED)

    with pytest.raises(JobCancelled):
        fetch("http://images.example/", aborted)
    with pytest.raises(ProviderTimeout):
        fetch("http://images.example/", Call(0))

    assert names.asked == []


# ---- Ended from outside


class Outcome:
    """A fetch in a thread of its own, and what it raised."""

    def __init__(self, call: Call, url: str) -> None:
        self.call = call
        self.error: LikeDoError | None = None
        self._thread = threading.Thread(target=self._run, args=(url,))
        self._thread.start()

    def _run(self, url: str) -> None:
        try:
            fetch(url, self.call)
        except LikeDoError as error:
            self.error = error

    def after_abort(self) -> LikeDoError | None:
        self.call.abort(CANCELLED)
        return self.at_last()

    def at_last(self) -> LikeDoError | None:
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()
        return self.error


@pytest.mark.parametrize("step", SLOW)
def test_an_abort_from_another_thread_ends_a_fetch(
    upstream: Upstream, local: None, step: Step
) -> None:
    upstream.script(step)
    outcome = Outcome(Call(60), upstream.url)
    upstream.wait(received=1)

    assert outcome.after_abort() is CANCELLED
    upstream.wait(aborted=1)


def test_an_abort_ends_a_fetch_behind_a_redirect(upstream: Upstream, local: None) -> None:
    upstream.script(redirect("/b"), {"delay": 60})
    outcome = Outcome(Call(60), upstream.url)
    upstream.wait(received=2)

    assert outcome.after_abort() is CANCELLED
    upstream.wait(aborted=1)


def test_an_abort_ends_a_handshake(local: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        outcome = Outcome(Call(60), f"https://127.0.0.1:{listener.getsockname()[1]}/")
        connection, _ = listener.accept()
        with connection:
            connection.recv(1)

            assert outcome.after_abort() is CANCELLED


def test_an_abort_ends_a_look_up(names: Names) -> None:
    outcome = Outcome(Call(60), "http://silent.example/")
    names.begun.wait()

    assert outcome.after_abort() is CANCELLED


def test_a_call_goes_on_after_an_image_that_did_not_come(
    upstream: Upstream, local: None, hurried: None
) -> None:
    call = Call(60)
    upstream.script({"delay": 60}, image())

    refusal(upstream.url, call)

    assert fetch(upstream.url, call).data == PNG
    call.check()


def in_a_greenlet(host: Host, url: str, way: str) -> str:
    """Fetch in a process of gevent's, and return what came of it, by its class."""
    command = [sys.executable, "-c", GREENLET, url, way]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as child:
        if way == "abort":
            wait_until(lambda: host.sent > 5, "it has begun to read")
        said, errors = child.communicate("Go on.", timeout=PATIENCE_SECONDS)
    assert errors == ""
    return said.strip()


def test_a_greenlet_fetches_as_a_thread_does() -> None:
    with Host(chunked(PNG) + b"\r\n") as host:
        assert in_a_greenlet(host, host.url(), "fetch") == "Media"


@pytest.mark.parametrize(("way", "error"), [("abort", "JobCancelled"), ("time", "InvalidRequest")])
def test_a_greenlet_ends_in_a_handshake_that_trickles(way: str, error: str) -> None:
    """A greenlet waits for each byte of it with a time-out that begins anew."""
    # The head of a record of 16 KiB.
    with Host(b"\x16\x03\x03\x40\x00" + bytes(2000), gap=0.02) as host:
        assert in_a_greenlet(host, host.url().replace("http:", "https:"), way) == error


GREENLET = """
from gevent import monkey
monkey.patch_all()
import select
import sys
import gevent
from models.errors import JobCancelled, LikeDoError
from net import public_hosts
from net.call import Call
from providers.wire import caller_images

public_hosts.is_allowed = lambda address: True
if sys.argv[2] == "time":
    caller_images.FETCH_SECONDS = 0.5

def run(call):
    try:
        return caller_images.fetch(call, sys.argv[1], "param")
    except LikeDoError as error:
        return error

call = Call(60)
greenlet = gevent.spawn(run, call)
if sys.argv[2] == "abort":
    select.select([sys.stdin], [], [])
    call.abort(JobCancelled("Cancelled."))
print(type(greenlet.get()).__name__)
"""


# ---- What a provider made

PUBLIC_BASE = "https://api.provider.example/v1"


def download(
    upstream: Upstream, folder: Path, url: str | SpooledImage = "", call: Call | None = None
) -> bytes:
    """Download from the provider's own host, and return what is in the file."""
    path = result_images.download(
        call or Call(60), url or f"{upstream.url}/a.png", folder, upstream.url
    )
    assert path.parent == folder
    return path.read_bytes()


def failure(
    url: str, folder: Path, base: str = PUBLIC_BASE, call: Call | None = None
) -> LikeDoError:
    """Return the error of a download, which is the provider's and leaves no file."""
    with pytest.raises((ProviderFailed, ProviderTimeout)) as raised:
        result_images.download(call or Call(60), url, folder, base)
    assert list(folder.iterdir()) == []
    assert urls_in(raised.value.message) == []
    return raised.value


def test_hosts_that_callers_name_keep_no_result_waiting(
    names: Names, upstream: Upstream, tmp_path: Path
) -> None:
    upstream.script(image())
    names.say("made.example", ["127.0.0.1"])
    calls = [Call(60) for _ in range(untrusted.LOOKUPS)]
    outcomes = [Outcome(call, "http://silent.example/") for call in calls]
    names.begun.wait()
    base = f"http://made.example:{upstream.port}"

    path = result_images.download(Call(5), f"{base}/a.png", tmp_path, base)

    assert path.read_bytes() == PNG
    for call, outcome in zip(calls, outcomes, strict=True):
        call.abort(JobCancelled("Enough."))
        assert isinstance(outcome.at_last(), JobCancelled)


def urls_in(message: str) -> list[str]:
    return [word for word in message.split() if "://" in word or "127.0.0.1" in word]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the pauses between attempts be none."""
    monkeypatch.setattr(result_images, "RETRY_PAUSES", (0.0, 0.0))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the 60 seconds be one."""
    monkeypatch.setattr(result_images, "DOWNLOAD_SECONDS", 1.0)


@pytest.mark.parametrize(
    "data",
    [
        PNG,
        b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01",
        b"RIFF\n\x00\x00\x00WEBPVP8 ",
        b"GIF89a" + bytes(9),
    ],
)
@pytest.mark.parametrize("framing", [{}, {"split": 1}, {"chunked": True, "split": 5}])
def test_a_result_is_a_file(upstream: Upstream, tmp_path: Path, data: bytes, framing: Step) -> None:
    upstream.script(image(data, headers={"content-type": "text/html"}, **framing))

    assert download(upstream, tmp_path) == data


def test_a_result_is_asked_for_without_a_key(upstream: Upstream, tmp_path: Path) -> None:
    upstream.script(image())

    download(upstream, tmp_path)

    (call,) = upstream.calls()
    assert call["headers"] == {
        "host": f"127.0.0.1:{upstream.port}",
        "accept": "image/*",
        "accept-encoding": "identity",
        "user-agent": "likedo/1",
    }


@pytest.mark.parametrize(
    "data",
    [b"", b"\x89PNG", b"<html>" * 9, b"<svg xmlns='http://www.w3.org/2000/svg'/>", box(b"heic")],
)
def test_a_result_that_is_no_image_is_a_failure(
    upstream: Upstream, tmp_path: Path, data: bytes
) -> None:
    upstream.script(image(data, headers={"content-type": "image/png"}))

    failure(upstream.url, tmp_path, upstream.url)
    assert upstream.counts()["received"] == 1


def test_a_page_is_left_at_its_first_bytes(tmp_path: Path) -> None:
    with Host(head() + b"<html>" * 10, b"." * 10**6, then_wait=True) as host:
        failure(host.url(), tmp_path, host.url())


@pytest.mark.parametrize("framing", [{}, {"chunked": True}])
def test_a_result_may_be_so_large_and_not_a_byte_larger(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, framing: Step
) -> None:
    monkeypatch.setattr(result_images, "MAX_RESULT_BYTES", 100_000)
    largest = PNG.ljust(100_000, b".")
    upstream.script(image(largest, **framing), image(largest + b".", **framing))

    assert download(upstream, tmp_path / ".") == largest
    (tmp_path / "other").mkdir()
    failure(upstream.url, tmp_path / "other", upstream.url)
    assert upstream.counts()["received"] == 2


def test_a_result_is_not_kept_in_memory(tmp_path: Path) -> None:
    largest = PNG.ljust(result_images.MAX_RESULT_BYTES, b".")

    with Host(plain(largest)) as host:
        tracemalloc.start()
        path = result_images.download(Call(60), host.url(), tmp_path, host.url())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert path.stat().st_size == result_images.MAX_RESULT_BYTES
    assert peak < 2**20


def test_a_result_in_the_answer_needs_no_server(upstream: Upstream, tmp_path: Path) -> None:
    url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    (tmp_path / "spooled").write_bytes(PNG)

    assert download(upstream, tmp_path, url) == PNG
    assert download(upstream, tmp_path, SpooledImage(tmp_path / "spooled")) == PNG
    for broken in ("data:image/png,a", SpooledImage(None)):
        with pytest.raises(ProviderFailed):
            download(upstream, tmp_path, broken)
    assert upstream.counts()["received"] == 0


# ---- Where a result may be


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "inside.example"]
)
@pytest.mark.parametrize("base", [PUBLIC_BASE, "http://10.0.0.1/v1", "http://127.0.0.2:{port}"])
def test_no_provider_leads_to_a_host_inside(
    upstream: Upstream, tmp_path: Path, names: Names, host: str, base: str
) -> None:
    names.say("localhost", ["127.0.0.1"])
    names.say("inside.example", ["127.0.0.1"])
    names.say("api.provider.example", ["93.184.216.34"])
    upstream.script(default=image())

    failure(f"http://{host}:{upstream.port}/", tmp_path, base.format(port=upstream.port))
    assert upstream.counts()["received"] == 0


@pytest.mark.parametrize(
    ("base", "host"),
    [
        ("http://127.0.0.1:{port}/v1", "127.0.0.1"),
        ("http://127.0.0.1:9/v1", "127.0.0.1"),
        ("http://gateway.internal/v1", "gateway.internal"),
        ("http://GATEWAY.internal/v1", "gateway.internal"),
        ("http://gateway.internal/v1", "files.internal"),
        ("http://gateway.internal/v1", "127.0.0.1"),
    ],
)
def test_an_operators_own_gateway_may_be_inside(
    upstream: Upstream, tmp_path: Path, names: Names, base: str, host: str
) -> None:
    """By its name, or by another name of the same address, on whatever port."""
    names.say("gateway.internal", ["127.0.0.1"])
    names.say("files.internal", ["127.0.0.1"])
    upstream.script(image())

    url, trusted = f"http://{host}:{upstream.port}/", base.format(port=upstream.port)
    assert result_images.download(Call(60), url, tmp_path, trusted).read_bytes() == PNG


def test_an_address_beside_the_gateways_is_not_the_gateways(
    upstream: Upstream, tmp_path: Path, names: Names
) -> None:
    names.say("gateway.internal", ["127.0.0.1"])
    names.say("files.internal", ["127.0.0.1", "127.0.0.2"])
    upstream.script(default=image())

    failure(f"http://files.internal:{upstream.port}/", tmp_path, "http://gateway.internal/v1")
    assert upstream.counts()["received"] == 0


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.2:{port}/",
        "//169.254.169.254/latest/meta-data",
        "http://10.0.0.1/",
        "file:///a",
    ],
)
def test_where_a_result_redirects_to_is_checked_anew(
    upstream: Upstream, tmp_path: Path, location: str
) -> None:
    upstream.script(redirect(location.format(port=upstream.port)), default=image())

    failure(upstream.url, tmp_path, upstream.url)
    assert upstream.counts()["received"] == 1


def test_a_third_redirect_of_a_result_is_followed_and_no_fourth(
    upstream: Upstream, tmp_path: Path
) -> None:
    upstream.script(*[redirect("/next")] * 3, image())
    assert download(upstream, tmp_path) == PNG

    (tmp_path / "other").mkdir()
    upstream.script(*[redirect("/next")] * 4, image())
    failure(upstream.url, tmp_path / "other", upstream.url)
    assert upstream.counts()["received"] == 8


@pytest.mark.parametrize(
    "url", ["", "a.png", "ftp://a.example/", "http://a b/", "http://[", "http://u:p@a.example/"]
)
def test_a_result_without_a_place_is_a_failure(tmp_path: Path, url: str) -> None:
    assert type(failure(url, tmp_path)) is ProviderFailed


# ---- A result that does not come at once

SLOW_RESULTS = [*SLOW[:2], pytest.param({"dribble": "GIF89a", "gap": 0.01}, id="while-reading")]
BROKEN = [
    pytest.param({"cut": -1}, id="no-answer"),
    pytest.param(image(cut=15), id="cut-short"),
    pytest.param({"raw": "SSH-2.0-OpenSSH\r\n"}, id="no-http"),
    pytest.param({"status": 429, "body": ""}, id="busy"),
    pytest.param({"status": 500, "body": ""}, id="failed"),
    pytest.param({"status": 503, "body": ""}, id="unavailable"),
]


@pytest.mark.parametrize("step", BROKEN)
def test_a_result_is_asked_for_three_times(
    upstream: Upstream, tmp_path: Path, impatient: None, step: Step
) -> None:
    upstream.script(step, step, image())
    assert download(upstream, tmp_path) == PNG
    assert len(list(tmp_path.iterdir())) == 1

    (tmp_path / "other").mkdir()
    upstream.script(step, step, step, image())
    assert type(failure(upstream.url, tmp_path / "other", upstream.url)) is ProviderFailed
    assert upstream.counts()["received"] == 6


@pytest.mark.parametrize("status", [204, 206, 304, 400, 403, 404, 410])
def test_what_will_not_change_is_not_asked_for_again(
    upstream: Upstream, tmp_path: Path, status: int
) -> None:
    upstream.script(default=image(status=status))

    assert type(failure(upstream.url, tmp_path, upstream.url)) is ProviderFailed
    assert upstream.counts()["received"] == 1


def test_a_server_of_results_that_is_not_there_is_a_failure(
    tmp_path: Path, impatient: None
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"

    assert type(failure(url, tmp_path, url)) is ProviderFailed


def test_a_name_that_is_not_found_is_looked_up_again(
    upstream: Upstream, tmp_path: Path, names: Names, impatient: None, local: None
) -> None:
    names.say("files.example", [], ["127.0.0.1"])
    upstream.script(image())

    url = f"http://files.example:{upstream.port}/"
    assert result_images.download(Call(60), url, tmp_path, PUBLIC_BASE).read_bytes() == PNG
    assert names.asked == ["files.example"] * 2


@pytest.mark.parametrize("step", SLOW_RESULTS)
def test_a_result_comes_in_time_or_not_at_all(
    upstream: Upstream, tmp_path: Path, short: None, step: Step
) -> None:
    upstream.script(step)

    assert type(failure(upstream.url, tmp_path, upstream.url)) is ProviderTimeout
    upstream.wait(aborted=1)
    assert upstream.counts()["received"] == 1


def test_all_attempts_at_a_result_are_part_of_the_time(
    upstream: Upstream, tmp_path: Path, short: None, impatient: None
) -> None:
    upstream.script(default={"status": 500, "body": "", "delay": 0.6})

    assert type(failure(upstream.url, tmp_path, upstream.url)) is ProviderTimeout
    assert upstream.counts()["received"] < 3


@pytest.mark.parametrize("step", SLOW_RESULTS)
def test_an_abort_ends_a_download_with_its_reason(
    upstream: Upstream, tmp_path: Path, step: Step
) -> None:
    upstream.script(step)
    call = Call(60)
    threading.Thread(target=lambda: (upstream.wait(received=1), call.abort(CANCELLED))).start()

    with pytest.raises(JobCancelled) as raised:
        download(upstream, tmp_path, call=call)

    assert raised.value is CANCELLED
    upstream.wait(aborted=1)
    assert list(tmp_path.iterdir()) == []


def test_an_abort_ends_the_pause_between_attempts(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_images, "RETRY_PAUSES", (60.0,))
    upstream.script({"status": 500, "body": ""})
    call = Call(60)
    threading.Thread(target=lambda: (upstream.wait(received=1), call.abort(CANCELLED))).start()

    with pytest.raises(JobCancelled):
        download(upstream, tmp_path, call=call)

    assert upstream.counts()["received"] == 1


def test_a_disk_that_takes_no_result_is_not_the_providers_fault(
    upstream: Upstream, tmp_path: Path
) -> None:
    upstream.script(image())

    with pytest.raises(Unavailable):
        result_images.download(Call(60), upstream.url, tmp_path / "missing", upstream.url)

    assert upstream.counts()["received"] == 1


# ---- Results side by side


def test_results_come_side_by_side_and_in_their_order(upstream: Upstream, tmp_path: Path) -> None:
    """No server answers before all have asked."""
    together = threading.Barrier(3)

    def way(place: int) -> Path:
        together.wait(20)
        if place == 1:
            raise ProviderFailed("No.")
        return tmp_path / str(place)

    found = result_images.side_by_side([partial(way, place) for place in range(3)])

    assert [found[0], found[2]] == [tmp_path / "0", tmp_path / "2"]
    assert isinstance(found[1], ProviderFailed)


@pytest.mark.parametrize("count", [1, 3])
def test_what_is_not_the_providers_fault_is_raised(count: int) -> None:
    def way() -> Path:
        raise CANCELLED

    with pytest.raises(JobCancelled):
        result_images.side_by_side([way] * count)
