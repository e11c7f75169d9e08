"""Images drawn by Replicate, which the tests' upstream is."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.errors import JobCancelled, LikeDoError
from net.call import Call
from providers.image import DrawRequest, DrawResult, Picture
from providers.replicate import Replicate
from tests.providers.wanted_images import wanted
from tests.upstream import Step, Upstream

SCHNELL = "black-forest-labs/flux-schnell"
PRO = "black-forest-labs/flux-pro"
SDXL = "stability-ai/sdxl:7762fd07"

#: The next look at a prediction.
LOOK: Step = {"match": "/predictions/"}
#: A prediction that is over when it is first looked at.
SOON = {"polls": 0}


def nobody(id: str) -> None:
    """Note that work was begun, where no test wants to know."""


def draw(
    folder: Path,
    request: DrawRequest | None = None,
    model: str = SCHNELL,
    call: Call | None = None,
    started: Any = nobody,
) -> DrawResult:
    request = replace(request or wanted(), model=model, folder=folder)
    return Replicate().draw(request, "r8_test", call or Call(20), started)


def resume(id: str, folder: Path, call: Call | None = None) -> DrawResult:
    request = replace(wanted(), model=SCHNELL, folder=folder)
    return Replicate().resume(id, request, "r8_test", call or Call(20))


def failure(folder: Path, **more: Any) -> LikeDoError:
    """Return the error that a `draw` ends with."""
    with pytest.raises(LikeDoError) as caught:
        draw(folder, **more)
    return caught.value


def contents(drawn: DrawResult) -> list[bytes]:
    """Return the bytes of all images, none of which is missing."""
    return [outcome.path.read_bytes() for outcome in drawn.pictures if isinstance(outcome, Picture)]


def creates(upstream: Upstream) -> list[dict[str, Any]]:
    return [call for call in upstream.calls() if call["path"].endswith("/predictions")]


def looks(upstream: Upstream) -> list[dict[str, Any]]:
    return [
        call
        for call in upstream.calls()
        if call["method"] == "GET" and "/predictions/" in call["path"]
    ]


def begin(upstream: Upstream, folder: Path, pool: ThreadPoolExecutor) -> str:
    """Return the id of what nobody watches any more, and is at work."""
    upstream.script({"prediction": {"hold": True}})
    told: list[str] = []
    call = Call(20)
    drawing = pool.submit(draw, folder, call=call, started=told.append)
    upstream.wait(received=2)
    call.abort(JobCancelled("Enough."))
    drawing.exception()
    return told[0]
