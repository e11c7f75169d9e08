"""Every storage there is, in this process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.backend import Backend
from storage.local import Local
from storage.s3 import S3
from tests.servers.s3 import S3Server, sign_in

BUCKET = "images-of-tests"


@pytest.fixture(scope="session")
def shared_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(Path(tmp_path_factory.mktemp("s3")))
    yield server
    server.process.kill()


@pytest.fixture
def s3(shared_s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The service with one empty bucket, and this process's credentials for it."""
    shared_s3.reset(BUCKET)
    sign_in(monkeypatch)
    return shared_s3


@pytest.fixture(params=["local", "s3"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    if request.param == "local":
        return Local(tmp_path / "files")
    return S3(BUCKET, request.getfixturevalue("s3").url)
