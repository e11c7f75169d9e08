"""Images that callers name: the bytes say what they are."""

import pytest

from providers.wire.caller_images import Media
from tests.net.untrusted.hosts import PNG, box, fetch, image, refusal
from tests.upstream import Upstream


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
