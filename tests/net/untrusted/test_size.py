"""How much is read from an untrusted server."""

import gzip

import pytest

from net import lookups, untrusted
from net.call import Call
from providers.wire import caller_images
from tests.net.untrusted.hosts import PNG, Host, chunked, fetch, head, image, plain, refusal
from tests.upstream import Step, Upstream


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
    addresses = lookups.resolve(Call(60), "127.0.0.1", upstream.port)

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
