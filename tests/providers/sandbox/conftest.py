"""A sandbox that loses no time."""

import pytest

from providers.sandbox import chat as sandbox_chat


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let streams speak faster than anybody reads."""
    for name in ("WORDS_PER_SECOND", "LONG_WORDS_PER_SECOND"):
        monkeypatch.setattr(sandbox_chat, name, 10**9)
