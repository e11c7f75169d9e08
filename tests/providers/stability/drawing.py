"""Images drawn by Stability AI, which the tests' upstream is."""

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.errors import LikeDoError
from net.call import Call
from providers.image import DrawRequest, DrawResult, Picture
from providers.stability import Stability
from tests.providers.wanted_images import wanted
from tests.upstream import Step

CORE = "stable-image-core"
XL = "stable-diffusion-xl-1024-v1-0"


def draw(
    folder: Path,
    request: DrawRequest | None = None,
    model: str = CORE,
    call: Call | None = None,
) -> DrawResult:
    def started(operation_id: str) -> None:
        raise AssertionError("nothing here is worked on after the answer")

    request = replace(request or wanted(), model=model, folder=folder)
    return Stability().draw(request, "sk-test", call or Call(20), started)


def failure(folder: Path, **more: Any) -> LikeDoError:
    """Return the error that a `draw` ends with."""
    with pytest.raises(LikeDoError) as caught:
        draw(folder, **more)
    return caught.value


def contents(drawn: DrawResult) -> list[bytes]:
    return [outcome.path.read_bytes() for outcome in drawn.pictures if isinstance(outcome, Picture)]


def image_step(data: bytes, **headers: str) -> Step:
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return {
        "headers": {"content-type": "image/png"} | told,
        "body_base64": base64.b64encode(data).decode(),
    }
