"""Images by Replicate: create a prediction, then poll it until it has ended.

https://replicate.com/docs/reference/http
"""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from config.settings import settings
from models.errors import (
    ContentPolicyViolation,
    InvalidRequest,
    LikeDoError,
    ProviderFailed,
    ProviderTimeout,
)
from net import http
from net.answer import Response
from net.call import Call, child_call
from providers import image
from providers.image import DrawRequest, DrawResult, ImageProvider, Picture
from providers.wire import json, refusal_body, result_images

#: The pause between two polls of a prediction grows from the first to the maximum.
FIRST_PAUSE_SECONDS = 0.3
MAX_PAUSE_SECONDS = 2.0
PAUSE_GROWTH = 1.3
#: Longer delays that Replicate asks for between polls are cut to this: callers are waiting.
MAX_DELAY_SECONDS = 10.0
#: The timeout of one poll; another follows.
POLL_SECONDS = 30.0
#: How many times in a row the first polls may not find a prediction that was just created.
MAX_UNKNOWN_AT_FIRST = 2

ENDED = {"succeeded", "failed", "canceled", "aborted"}
#: HTTP statuses of a prediction that does not exist, or no longer does.
GONE = {404, 410}
#: HTTP statuses of a refused poll that say nothing about the prediction.
TRANSIENT = {408, 425, 429}

_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_URL = re.compile(r"https?://|data:", re.IGNORECASE)
#: If a model's output is an object, its images are in the first of these fields that has any.
_FIELDS = ("images", "image", "output", "urls", "url")
#: How models say that a prompt or its result was blocked by a content filter.
_CONTENT = re.compile(
    r"nsfw|flagged|\bE005\b|sensitive content|content policy|moderation"
    r"|safety (system|checker|filter)",
    re.IGNORECASE,
)


class Replicate(ImageProvider):
    name = "replicate"

    def draw(
        self, request: DrawRequest, key: str, call: Call, on_started: Callable[[str], None]
    ) -> DrawResult:
        prediction = self._create(request, key, call)
        id = _checked_id(prediction.get("id"))
        on_started(id)
        polls = self._poll(id, key, call, MAX_UNKNOWN_AT_FIRST)
        return _download_images(_finished([prediction], polls, request.count), request, call)

    def resume(self, operation_id: str, request: DrawRequest, key: str, call: Call) -> DrawResult:
        polls = self._poll(_checked_id(operation_id), key, call, 0)
        return _download_images(_finished([], polls, request.count), request, call)

    def cancel(self, operation_id: str, key: str, call: Call) -> None:
        url = f"{_url_of(_checked_id(operation_id))}/cancel"
        response = http.send_without_body(call, "POST", url, _headers(key))
        if response.status in GONE:
            raise _unknown(operation_id)
        if response.status >= 400:
            raise self._refusal_later(response)

    def _create(self, request: DrawRequest, key: str, call: Call) -> dict[str, Any]:
        """Create a prediction and return its first state."""
        url, payload = _url_and_payload(request)
        body = http.encode_json(payload)
        with http.create(call, url, _headers(key), body, "application/json") as answer:
            response = answer.whole()
        if response.status >= 400:
            raise self.refusal(response)
        return json.as_object(json.decoded(self.name, response.content))

    def _poll(
        self, id: str, key: str, call: Call, unknown_at_first: int
    ) -> Iterator[dict[str, Any]]:
        """Poll the prediction and yield it each time, without end; `call` ends the wait.

        A failed poll says nothing about the prediction and yields nothing.
        """
        delay = 0.0
        for pause in pauses():
            call.wait(max(pause, delay))
            response = self._poll_once(id, key, call)
            delay = 0.0
            if response is None:
                continue
            if response.status == 404 and unknown_at_first > 0:
                unknown_at_first -= 1
            elif response.status < 400:
                unknown_at_first = 0
                yield self._read(response)
            else:
                delay = self._delay(id, response)

    def _poll_once(self, id: str, key: str, call: Call) -> Response | None:
        """Request the prediction once; None if no response comes."""
        try:
            with child_call(call, POLL_SECONDS) as poll_call:
                return http.send_without_body(poll_call, "GET", _url_of(id), _headers(key))
        except (ProviderFailed, ProviderTimeout):
            call.check()
            return None

    def _read(self, response: Response) -> dict[str, Any]:
        """Return the prediction; an empty one if the body is something else, such as a page."""
        try:
            return json.as_object(json.decoded(self.name, response.content))
        except ProviderFailed:
            return {}

    def _delay(self, id: str, response: Response) -> float:
        """Return the seconds that a refused poll asks to wait; raise its error if it is final."""
        if response.status in GONE:
            raise _unknown(id)
        error = self._refusal_later(response)
        if response.status < 500 and response.status not in TRANSIENT:
            raise error
        return min(error.stated_delay or 0.0, MAX_DELAY_SECONDS)

    def _refusal_later(self, response: Response) -> LikeDoError:
        """Return the error for a refusal after the prediction was created."""
        error = self.refusal(response)
        if isinstance(error, InvalidRequest):
            # The caller's request had been accepted, so this is not about it.
            return ProviderFailed(f"{self.name} failed (HTTP {response.status}).")
        error.nothing_ran = False
        return error


def pauses() -> Iterator[float]:
    """Yield the seconds before each poll of a prediction, without end."""
    pause = FIRST_PAUSE_SECONDS
    while True:
        yield pause
        pause = min(pause * PAUSE_GROWTH, MAX_PAUSE_SECONDS)


def image_urls(output: Any) -> list[str]:
    """Return the URLs of the images in a prediction's `output`.

    `output` may be a string, a list, an object, or None; text that is not a URL is ignored.
    """
    if isinstance(output, str):
        return [output] if _URL.match(output) else []
    if isinstance(output, list):
        return [url for item in output for url in image_urls(item)]
    if isinstance(output, dict):
        return next(filter(None, (image_urls(output.get(name)) for name in _FIELDS)), [])
    return []


def _headers(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def _url_and_payload(request: DrawRequest) -> tuple[str, dict[str, Any]]:
    """Return the URL and the JSON of the request that creates a prediction."""
    base_url = settings.base_url_of(Replicate.name)
    count = {"num_outputs": request.count} if request.count > 1 else {}
    payload = {"input": {**request.parameters, "prompt": request.prompt, **count}}
    model, _, version = request.model.partition(":")
    if version:
        return f"{base_url}/predictions", {"version": version, **payload}
    return f"{base_url}/models/{model}/predictions", payload


def _url_of(id: str) -> str:
    return f"{settings.base_url_of(Replicate.name)}/predictions/{id}"


def _checked_id(id: Any) -> str:
    """Return `id` if it can be put into a URL as it is; else raise `ProviderFailed`."""
    if isinstance(id, str) and _ID.fullmatch(id):
        return id
    raise ProviderFailed("replicate began something and gave it no usable id.")


def _unknown(id: str) -> ProviderFailed:
    return ProviderFailed(f"replicate does not know, or no longer, what it began as {id}.")


def _finished(
    seen: list[Mapping[str, Any]], polls: Iterator[dict[str, Any]], count: int
) -> Mapping[str, Any]:
    """Return the prediction once it has ended or has `count` images."""
    for prediction in itertools.chain(seen, polls):
        if json.as_text(prediction.get("status")) in ENDED:
            return prediction
        if len(image_urls(prediction.get("output"))) >= count:
            return prediction
    raise AssertionError("Polling has no end.")


def _download_images(prediction: Mapping[str, Any], request: DrawRequest, call: Call) -> DrawResult:
    """Download the images of a finished prediction."""
    urls = image_urls(prediction.get("output"))[: request.count]
    if not urls:
        raise failure(prediction)
    base_url = settings.base_url_of(Replicate.name)
    downloads = [
        partial(result_images.download, call, url, request.folder, base_url) for url in urls
    ]
    files = result_images.side_by_side(downloads)
    outcomes = [Picture(file) if isinstance(file, Path) else file for file in files]
    return image.draw_result(outcomes, request.count, failure(prediction))


def failure(prediction: Mapping[str, Any]) -> LikeDoError:
    """Return the error for a finished prediction that has no image, or too few."""
    status, message = map(json.as_text, (prediction.get("status"), prediction.get("error")))
    if status == "failed":
        return _failed(refusal_body.scrub(message))
    if status in ("canceled", "aborted"):
        return ProviderFailed(f"replicate's work was {status} before the image was there.")
    if prediction.get("data_removed"):
        return ProviderFailed("replicate removed the images before they were fetched.")
    return ProviderFailed("replicate made fewer images than it was asked for.")


def _failed(message: str) -> LikeDoError:
    # The prediction ran and may be billed, so `nothing_ran` stays false.
    if _CONTENT.search(message):
        return ContentPolicyViolation(message)
    return ProviderFailed(f"replicate failed: {message}" if message else "replicate failed.")


images = Replicate()
