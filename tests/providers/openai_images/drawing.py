"""Images drawn by OpenAI, which the tests' upstream is."""

import base64
import threading
from pathlib import Path
from typing import Any

import pytest

from models.errors import JobCancelled, LikeDoError
from net.call import Call
from providers import images
from providers.image import DrawRequest, DrawResult, Picture
from tests.upstream import Step

PATH = "/images/generations"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
LARGE = PNG + bytes(100_000)
CANCELLED = JobCancelled("The job was cancelled.")


def draw(folder: Path, count: int = 1, call: Call | None = None, **sent: Any) -> DrawResult:
    wanted = DrawRequest("gpt-image-2", "A lion.", count, folder, sent)
    return images["openai"].draw(wanted, "sk-test", call or Call(60), unexpected)


def unexpected(operation_id: str) -> None:
    pytest.fail("Nothing goes on after the answer.")


def failure(folder: Path, count: int = 1, call: Call | None = None) -> LikeDoError:
    with pytest.raises(LikeDoError) as raised:
        draw(folder, count, call)
    return raised.value


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def answer(*entries: Any, **more: Any) -> Step:
    return {"match": PATH, "json": {"created": 1, "data": entries} | more}


def file(path: str, data: bytes = PNG, **more: Any) -> Step:
    return {"match": path, "body_base64": base64_of(data)} | more


def files(drawn: DrawResult) -> list[Any]:
    """Return the bytes of each image, or the class of the error in its place."""
    return [
        picture.path.read_bytes() if isinstance(picture, Picture) else type(picture)
        for picture in drawn.pictures
    ]


class Drawing:
    """Some images being drawn in a thread of their own, and what was raised."""

    def __init__(self, folder: Path, count: int, call: Call) -> None:
        self._error: LikeDoError | None = None
        self._thread = threading.Thread(target=self._run, args=(folder, count, call))
        self._thread.start()

    def _run(self, folder: Path, count: int, call: Call) -> None:
        try:
            draw(folder, count, call)
        except LikeDoError as error:
            self._error = error

    def end(self) -> LikeDoError | None:
        self._thread.join()
        return self._error
