"""A provider on this machine, and the product's settings pointing at it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.catalog.load import catalog
from config.settings import ProviderAccess, settings
from net import connection
from tests.upstream import Upstream


@pytest.fixture(scope="session")
def server() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream
    connection.close_idle_connections()


@pytest.fixture
def upstream(server: Upstream, monkeypatch: pytest.MonkeyPatch) -> Upstream:
    """A provider with nothing scripted, which every vendor's base URL leads to."""
    server.reset()
    for field in type(settings).model_fields:
        if field.endswith("_base_url"):
            vendor = field.removesuffix("_base_url")
            monkeypatch.setattr(settings, field, f"{server.url}/{vendor}")
    for name in catalog.providers:
        access = ProviderAccess(f"{server.url}/{name}", keys=[""])
        monkeypatch.setitem(settings._providers, name, access)
    return server


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for this machine and for `images.example`, and its key."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1,DNS:images.example"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    try:
        subprocess.run([*command.split(), *names, *files], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("There is no openssl command to make a certificate with.")
    return certificate, key
