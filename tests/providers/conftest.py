"""A provider on this machine, and the product's settings pointing at it."""

from collections.abc import Iterator

import pytest

from config.settings import settings
from providers import http
from tests.upstream import Upstream


@pytest.fixture(scope="session")
def server() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream
    http.forget_connections()


@pytest.fixture
def upstream(server: Upstream, monkeypatch: pytest.MonkeyPatch) -> Upstream:
    """A provider with nothing scripted, which every vendor's base URL leads to."""
    server.reset()
    for field in type(settings).model_fields:
        if field.endswith("_base_url"):
            vendor = field.removesuffix("_base_url")
            monkeypatch.setattr(settings, field, f"{server.url}/{vendor}")
    return server
