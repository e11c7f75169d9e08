"""Images by OpenAI."""

from collections.abc import Callable
from pathlib import Path

from config.catalog import ImageRoute
from providers.http import Call
from providers.image import Drawn, ImageProvider, Wanted


class OpenAIImages(ImageProvider):
    name = "openai"

    def draw(
        self,
        wanted: Wanted,
        route: ImageRoute,
        key: str,
        call: Call,
        folder: Path,
        started: Callable[[str], None],
    ) -> Drawn:
        raise NotImplementedError
