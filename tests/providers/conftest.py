"""A provider on this machine, and the product's settings pointing at it."""

import pytest

from config.catalog.load import catalog
from config.settings import ProviderAccess, settings
from tests.upstream import Upstream


@pytest.fixture
def upstream(own_upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> Upstream:
    """A provider with nothing scripted, which every vendor's base URL leads to."""
    own_upstream.reset()
    for field in type(settings).model_fields:
        if field.endswith("_base_url"):
            vendor = field.removesuffix("_base_url")
            monkeypatch.setattr(settings, field, f"{own_upstream.url}/{vendor}")
    for name in catalog.providers:
        access = ProviderAccess(f"{own_upstream.url}/{name}", keys=[""])
        monkeypatch.setitem(settings._providers, name, access)
    return own_upstream
