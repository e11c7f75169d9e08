"""Images that a caller names by their address: what is fetched, and what never is."""

import base64
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from models.errors import InvalidRequest, JobCancelled, ProviderTimeout
from providers import media
from providers.http import Call
from tests.upstream import Upstream

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20
PARAM = "messages[0].content[1].image_url.url"


def image(data: bytes = PNG, **more: Any) -> dict[str, Any]:
    return {"body_base64": base64.b64encode(data).decode(), **more}


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch, upstream: Upstream) -> Iterator[Upstream]:
    """A server on this machine, which counts as public here; nothing else here does."""
    is_public = media.is_public
    monkeypatch.setattr(media, "is_public", lambda a: a == "127.0.0.1" or is_public(a))
    yield upstream


def fetch(url: str, call: Call | None = None) -> media.Media:
    return media.fetch(call or Call(10), url, PARAM)


def refusal(url: str) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        fetch(url)
    assert refused.value.param == PARAM
    return refused.value


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0 and so on", "image/jpeg"),
        (b"GIF89a and so on", "image/gif"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (b"\0\0\0\x18ftypheic", "image/heic"),
        (b"\0\0\0\x18ftypmif1", "image/heif"),
    ],
)
def test_an_image_is_known_by_its_first_bytes(
    local: Upstream, data: bytes, media_type: str
) -> None:
    local.script(image(data, headers={"content-type": "text/html"}))

    assert fetch(f"{local.url}/a.png") == media.Media(media_type, data)


def test_what_is_asked_holds_nothing_of_ours(local: Upstream) -> None:
    local.script(image())

    fetch(f"{local.url}/a b.png?x=%20\u00e4#there")

    (call,) = local.calls()
    assert (call["method"], call["path"]) == ("GET", "/a%20b.png?x=%20%C3%A4")
    assert call["headers"] == {
        "host": f"127.0.0.1:{local.port}",
        "accept": "image/*",
        "accept-encoding": "identity",
        "user-agent": "likedo/1",
    }


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ({"json": {"not": "an image"}}, "no PNG"),
        ({"status": 404}, "HTTP 404"),
        ({"status": 500}, "HTTP 500"),
        (image(headers={"content-encoding": "gzip"}), "compresses"),
        ({"size": media.MAX_BYTES + 1}, "larger than 20 MiB"),
        ({"dribble": "x" * 1_000_000}, "larger than 20 MiB"),
        (image(cut=10), "could not be fetched"),
        (image(cut=-1), "could not be fetched"),
        ({"raw": "No HTTP.\r\n\r\n"}, "could not be fetched"),
        (image(status=302), "it redirects more than 3 times"),
        (image(status=302, headers={"location": "ftp://a.example/"}), "http or https"),
        (image(status=302, headers={"location": "http://10.0.0.1/"}), "no public address"),
    ],
)
def test_what_is_no_image_to_be_had_is_refused_with_the_reason(
    local: Upstream, step: dict[str, Any], reason: str
) -> None:
    local.script(default=step)

    assert reason in refusal(f"{local.url}/a.png").message


def test_up_to_three_redirects_are_followed(local: Upstream) -> None:
    steps = [image(b"", status=302, headers={"location": f"/{n}"}) for n in (1, 2, 3)]
    local.script(*steps, image())

    assert fetch(f"{local.url}/a.png").data == PNG
    assert [call["path"] for call in local.calls()] == ["/a.png", "/1", "/2", "/3"]


def test_it_takes_no_longer_than_it_may(local: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "MAX_SECONDS", 0.2)
    local.script(image(delay=30))

    assert "could not be fetched" in refusal(f"{local.url}/a.png").message


def test_it_takes_no_longer_than_its_call(local: Upstream) -> None:
    local.script(image(delay=30))

    with pytest.raises(ProviderTimeout):
        fetch(f"{local.url}/a.png", Call(0.2))


def test_a_call_that_is_over_is_not_gone_on_with(local: Upstream) -> None:
    call, reason = Call(30), JobCancelled("The job was cancelled.")
    local.script(image(dribble=" ", gap=0.01))

    def abort() -> None:
        local.wait(received=1)
        call.abort(reason)

    thread = threading.Thread(target=abort)
    thread.start()
    with pytest.raises(JobCancelled) as raised:
        fetch(f"{local.url}/a.png", call)
    thread.join()

    assert raised.value is reason


# ---- Addresses


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "gopher://example.com/",
        "http://",
        "http:///path",
        "http://[::1",
        "http://example.com:99999/",
        "http://user:password@example.com/a.png",
        "http://user@example.com/a.png",
        "http://" + "a" * 300 + ".com/",
    ],
)
def test_what_is_no_plain_url_is_refused(url: str) -> None:
    refusal(url)


#: Ways to say "this machine", "this network" and "whatever runs this machine".
INSIDE = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "localhost",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "192.0.0.8",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "[::1]",
    "[::]",
    "[::127.0.0.1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:169.254.169.254]",
    "[64:ff9b::10.0.0.1]",
    "[64:ff9b:1::10.0.0.1]",
    "[2002:7f00:1::]",
    "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
    "[fe80::1]",
    "[fc00::1]",
    "[fec0::1]",
    "[ff02::1]",
    "[2001:db8::1]",
]


@pytest.mark.parametrize("host", INSIDE)
def test_nothing_inside_is_ever_asked(host: str, upstream: Upstream) -> None:
    error = refusal(f"http://{host}:{upstream.port}/a.png")

    assert "address" in error.message or "found" in error.message
    assert upstream.counts()["received"] == 0


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "64:ff9b::1.1.1.1"])
def test_what_everybody_can_reach_is_public(address: str) -> None:
    assert media.is_public(address)


def test_a_host_with_one_address_inside_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, 80)) for a in ("1.1.1.1", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)

    assert "no public address" in refusal("http://example.com/").message


def test_a_host_is_looked_up_once_and_asked_where_it_was_found(
    local: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = socket.getaddrinfo

    def look_up(host: str, *rest: Any, **options: Any) -> Any:
        asked.append(host)
        if host == "images.example":
            # The second time it would lead elsewhere.
            host = "127.0.0.1" if asked.count(host) == 1 else "127.0.0.2"
        return real(host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    local.script(image())

    assert fetch(f"http://images.example:{local.port}/a.png").data == PNG
    assert asked.count("images.example") == 1
    assert local.calls()[0]["headers"]["host"] == f"images.example:{local.port}"
