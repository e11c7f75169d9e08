"""What the tests' upstream answers where images are asked for, and the predictions it works on.

Pictures are of one colour, and of the size that was asked for.
"""

import base64
import itertools
import json
import math
import os
import re
import struct
import zlib
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from functools import lru_cache
from typing import Any

Step = dict[str, Any]

#: One after another, so that the images of one answer can be told apart.
COLOURS = [(200, 120, 40), (40, 120, 200), (60, 160, 80), (170, 60, 120)]
CREATED = 1_767_225_600
#: How often a prediction is `processing` when it is asked for, unless a step says otherwise.
POLLS = 1

#: Of 8x8 pixels.
JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQc1td"
    "hbWGkJ6jq62rZ4C8ybqmx5moq6T/2wBDARweHigjKE4rK06kbl1upKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSk"
    "pKSkpKSkpKSkpKSkpKSkpKSkpKSkpKT/wAARCAAIAAgDASIAAhEBAxEB/8QAFQABAQAAAAAAAAAAAAAAAAAAAAL/xAAU"
    "EAEAAAAAAAAAAAAAAAAAAAAA/8QAFAEBAAAAAAAAAAAAAAAAAAAABP/EABQRAQAAAAAAAAAAAAAAAAAAAAD/2gAMAwEA"
    "AhEDEQA/AKAANf/Z"
)
WEBP = base64.b64decode("UklGRh4AAABXRUJQVlA4TBEAAAAvB8ABAAdQvCIXpf+BiOh/AAA=")

#: What vendors make of an aspect ratio, in pixels.
ASPECTS = {
    "1:1": (1024, 1024),
    "16:9": (1344, 768),
    "9:16": (768, 1344),
    "3:2": (1216, 832),
    "2:3": (832, 1216),
    "21:9": (1536, 640),
    "9:21": (640, 1536),
    "5:4": (1152, 896),
    "4:5": (896, 1152),
}

#: Of predictions, and none comes again: somebody may still ask for one that was forgotten.
_numbers = itertools.count(1)

_CREATE = re.compile(r"(?:/models/(?P<model>[^/]+/[^/]+))?/predictions$")
_POLL = re.compile(r"/predictions/(?P<id>[^/]+)$")
_CANCEL = re.compile(r"/predictions/(?P<id>[^/]+)/cancel$")
_FILE = re.compile(r"/files/(?P<name>.+)\.(?P<kind>png|jpg|webp)$")
_NAMED = re.compile(r"(?P<place>\d+)-(?P<width>\d+)x(?P<height>\d+)$")
_STABLE_IMAGE = re.compile(r"/v2beta/stable-image/generate/(core|ultra|sd3)$")
_STABLE_ENGINE = re.compile(r"/v1/generation/[^/]+/text-to-image$")
_ONE_URL = re.compile(r"flux-pro|flux-1\.1")


@lru_cache(maxsize=64)
def png(width: int = 1024, height: int = 1024, place: int = 0) -> bytes:
    """Return a PNG of that size in pixels, in the colour of the image at `place` of an answer."""
    row = b"\0" + bytes(COLOURS[place % len(COLOURS)]) * width
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(row * height, 1)), (b"IEND", b"")]
    return _assembled(chunks)


def _assembled(chunks: list[tuple[bytes, bytes]]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


@lru_cache(maxsize=2)
def noise(side: int) -> bytes:
    """Return a square PNG that nothing can be saved on: every pixel is another colour."""
    rows = b"".join(b"\0" + os.urandom(3 * side) for _ in range(side))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return _assembled([(b"IHDR", header), (b"IDAT", zlib.compress(rows, 0)), (b"IEND", b"")])


def base64_png(width: int = 1024, height: int = 1024, place: int = 0) -> str:
    return base64.b64encode(png(width, height, place)).decode()


@dataclass
class Prediction:
    """What Replicate works on, and how a step said that this goes."""

    id: str
    model: str
    input: dict[str, Any]
    #: The URL up to `/predictions`.
    base_url: str
    polls: int = POLLS
    ends: str = "succeeded"
    error: str | None = None
    output: Any = None
    hold: bool = False
    status: str = "starting"

    @property
    def is_over(self) -> bool:
        return self.status not in ("starting", "processing")

    def polled(self) -> None:
        """Go on, as far as it does between two looks at it."""
        if self.is_over:
            return
        self.status = "processing"
        if not self.hold and self.polls <= 0:
            self.status = self.ends
        self.polls -= not self.hold

    def as_json(self) -> dict[str, Any]:
        url = f"{self.base_url}/predictions/{self.id}"
        return {
            "id": self.id,
            "model": self.model,
            "version": "hidden",
            "input": self.input,
            "logs": "",
            "output": self._output() if self.status == "succeeded" else None,
            "data_removed": False,
            "error": self._error() if self.status == "failed" else None,
            "status": self.status,
            "created_at": "2026-01-01T00:00:00.123456789Z",
            "urls": {"get": url, "cancel": f"{url}/cancel"},
        }

    def _error(self) -> str:
        return self.error or "The model failed."

    def _output(self) -> Any:
        if self.output is not None:
            return self.output
        width, height = _size_of_input(self.input)
        urls = [
            f"{self.base_url}/files/{self.id}-{place}-{width}x{height}.png"
            for place in range(int(self.input.get("num_outputs", 1)))
        ]
        return urls[0] if _ONE_URL.search(self.model) else urls


@dataclass
class Images:
    """Everything the upstream knows of images."""

    predictions: dict[str, Prediction] = field(default_factory=dict)

    def release(self) -> None:
        """Let every prediction that is held go on."""
        for prediction in self.predictions.values():
            prediction.hold = False

    def answer(self, request: dict[str, Any], told: Step) -> Step | None:
        """Return how a `request` for images, or for what concerns them, is answered; else None.

        `told` is what the step for it says, if there is one.
        """
        path = request["path"].partition("?")[0]
        if request["method"] == "GET":
            return self._polled(path) or _file(path)
        if path.endswith("/images/generations"):
            return _openai(_json(request), told.get("noise"))
        if is_create(request):
            return self._created(path, request, told.get("prediction", {}))
        if found := _CANCEL.search(path):
            return self._cancelled(found["id"])
        if _STABLE_IMAGE.search(path):
            return _stable_image(request)
        return _artifacts(_json(request)) if _STABLE_ENGINE.search(path) else None

    def _created(self, path: str, request: dict[str, Any], course: dict[str, Any]) -> Step:
        body = _json(request)
        found = _CREATE.search(path)
        assert found is not None
        prediction = Prediction(
            id=f"prediction{next(_numbers)}",
            model=found["model"] or str(body.get("version", "")),
            input=dict(body.get("input", {})),
            base_url=f"http://{_header(request, 'host')}{path[: found.start()]}",
            **course,
        )
        self.predictions[prediction.id] = prediction
        return {"status": 201, "json": prediction.as_json()}

    def _polled(self, path: str) -> Step | None:
        found = _POLL.search(path)
        if found is None:
            return None
        if (prediction := self.predictions.get(found["id"])) is None:
            return _no_prediction()
        prediction.polled()
        return {"json": prediction.as_json()}

    def _cancelled(self, id: str) -> Step:
        if (prediction := self.predictions.get(id)) is None:
            return _no_prediction()
        if not prediction.is_over:
            prediction.status = "canceled"
        return {"json": prediction.as_json()}


def is_create(request: dict[str, Any]) -> bool:
    """Tell whether a request begins a prediction."""
    path = request["path"].partition("?")[0]
    return request["method"] == "POST" and _CREATE.search(path) is not None


def _no_prediction() -> Step:
    problem = {"detail": "The requested resource could not be found.", "status": 404}
    headers = {"content-type": "application/problem+json"}
    return {"status": 404, "headers": headers, "json": problem}


def _size_of_input(found: dict[str, Any]) -> tuple[int, int]:
    width, height = ASPECTS.get(found.get("aspect_ratio", "1:1"), ASPECTS["1:1"])
    scale = math.sqrt(float(found.get("megapixels", "1")))
    return (
        int(found.get("width", width * scale)),
        int(found.get("height", height * scale)),
    )


def _file(path: str) -> Step | None:
    found = _FILE.search(path)
    if found is None:
        return None
    kind = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}[found["kind"]]
    data = {"jpg": JPEG, "webp": WEBP}.get(found["kind"]) or _png_named(found["name"])
    return _bytes(data, {"content-type": kind})


def _png_named(name: str) -> bytes:
    named = _NAMED.search(name)
    if named is None:
        return png()
    return png(int(named["width"]), int(named["height"]), int(named["place"]))


def _openai(body: dict[str, Any], noise_side: int | None) -> Step:
    width, height = _pixels(body.get("size"))
    count = int(body.get("n") or 1)
    usage = {"input_tokens": 10, "output_tokens": 100 * count, "total_tokens": 10 + 100 * count}
    details = {"input_tokens_details": {"text_tokens": 10, "image_tokens": 0}}
    if noise_side:
        images = [base64.b64encode(noise(noise_side)).decode()] * count
    else:
        images = [base64_png(width, height, place) for place in range(count)]
    data = [{"b64_json": image} for image in images]
    return {"json": {"created": CREATED, "data": data, "usage": usage | details}}


def _pixels(size: Any) -> tuple[int, int]:
    if not isinstance(size, str) or "x" not in size:
        return 1024, 1024
    width, _, height = size.partition("x")
    return int(width), int(height)


def _stable_image(request: dict[str, Any]) -> Step:
    fields = _form(request)
    if "prompt" not in fields:
        problem = ["prompt: is required, in multipart/form-data"]
        refusal = {"id": "0123456789abcdef", "name": "bad_request", "errors": problem}
        return {"status": 400, "json": refusal}
    data = png(*ASPECTS[fields.get("aspect_ratio", "1:1")])
    if _header(request, "accept") == "application/json":
        image = base64.b64encode(data).decode()
        return {"json": {"image": image, "finish_reason": "SUCCESS", "seed": 1}}
    told = {"content-type": "image/png", "finish-reason": "SUCCESS", "seed": "1"}
    return _bytes(data, told)


def _artifacts(body: dict[str, Any]) -> Step:
    width, height = int(body.get("width", 1024)), int(body.get("height", 1024))
    artifacts = [
        {"base64": base64_png(width, height, place), "seed": place, "finishReason": "SUCCESS"}
        for place in range(int(body.get("samples", 1)))
    ]
    return {"json": {"artifacts": artifacts}}


def _bytes(data: bytes, headers: dict[str, str]) -> Step:
    return {"headers": headers, "body_base64": base64.b64encode(data).decode()}


def _json(request: dict[str, Any]) -> dict[str, Any]:
    found = json.loads(request["body"] or b"{}")
    return found if isinstance(found, dict) else {}


def _form(request: dict[str, Any]) -> dict[str, str]:
    """Return the fields of a multipart form; none where the body is not one."""
    head = f"Content-Type: {_header(request, 'content-type')}\r\n\r\n".encode()
    message = message_from_bytes(head + request["body"], policy=policy.HTTP)
    if message.get_content_type() != "multipart/form-data":
        return {}
    return dict(map(_field, message.iter_parts()))


def _field(part: Any) -> tuple[str, str]:
    name = part.get_param("name", header="content-disposition")
    return str(name), part.get_payload(decode=True).decode()


def _header(request: dict[str, Any], name: str) -> str:
    found = re.search(rf"(?im)^{name}: *(.*?)\r?$", request["head"].decode("latin-1"))
    return found[1] if found else ""
