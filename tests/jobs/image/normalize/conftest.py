"""A folder to make images ours in."""

from pathlib import Path

import pytest

from tests.jobs.image.normalize.studio import Studio


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)
