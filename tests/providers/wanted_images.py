"""Images to have drawn."""

from pathlib import Path
from typing import Any

from providers.image import DrawRequest


def wanted(count: int = 1, prompt: str = "A quiet harbour", **sent: Any) -> DrawRequest:
    """Return some images; which model draws them, and where to, is for the test to say."""
    return DrawRequest("", prompt, count, Path(), sent)
