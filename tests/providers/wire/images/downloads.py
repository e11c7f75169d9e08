"""Results of providers, downloaded."""

from pathlib import Path

import pytest

from models.errors import LikeDoError, ProviderFailed, ProviderTimeout
from net.call import Call
from providers.wire import result_images
from providers.wire.spooling import SpooledImage
from tests.net.untrusted.hosts import SLOW
from tests.upstream import Upstream

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


def urls_in(message: str) -> list[str]:
    return [word for word in message.split() if "://" in word or "127.0.0.1" in word]


SLOW_RESULTS = [*SLOW[:2], pytest.param({"dribble": "GIF89a", "gap": 0.01}, id="while-reading")]
