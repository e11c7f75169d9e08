"""Labelled pictures, drawn here."""

from collections.abc import Callable
from pathlib import Path

from config.catalog import ImageRoute
from providers.http import Call
from providers.image import Drawn, ImageProvider, Wanted


class SandboxImages(ImageProvider):
    name = "sandbox"

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
