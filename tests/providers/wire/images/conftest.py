"""What the tests of results change of the world."""

import pytest

from providers.wire import result_images
from tests.net.untrusted.conftest import local, names

__all__ = ["impatient", "local", "names", "short"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the pauses between attempts be none."""
    monkeypatch.setattr(result_images, "RETRY_PAUSES", (0.0, 0.0))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the 60 seconds be one."""
    monkeypatch.setattr(result_images, "DOWNLOAD_SECONDS", 1.0)
