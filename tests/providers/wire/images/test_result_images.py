"""Images that providers made: what is downloaded, and from where."""

import base64
import threading
import tracemalloc
from functools import partial
from pathlib import Path

import pytest

from models.errors import JobCancelled, ProviderFailed
from net import lookups
from net.call import Call
from providers.wire import result_images
from providers.wire.spooling import SpooledImage
from tests.net.untrusted.hosts import (
    CANCELLED,
    PNG,
    Host,
    Names,
    Outcome,
    box,
    head,
    image,
    plain,
    redirect,
)
from tests.providers.wire.images.downloads import PUBLIC_BASE, download, failure
from tests.upstream import Step, Upstream

# ---- What a provider made


def test_hosts_that_callers_name_keep_no_result_waiting(
    names: Names, upstream: Upstream, tmp_path: Path
) -> None:
    upstream.script(image())
    names.say("made.example", ["127.0.0.1"])
    calls = [Call(60, f"account {number}") for number in range(lookups.MAX_LOOKUPS)]
    outcomes = [Outcome(call, "http://silent.example/") for call in calls]
    names.begun.wait()
    base = f"http://made.example:{upstream.port}"

    path = result_images.download(Call(5), f"{base}/a.png", tmp_path, base)

    assert path.read_bytes() == PNG
    for call, outcome in zip(calls, outcomes, strict=True):
        call.abort(JobCancelled("Enough."))
        assert isinstance(outcome.at_last(), JobCancelled)


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
