"""Images by Replicate, which creates a prediction and is polled until it has ended.

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
from providers.image import Drawn, ImageProvider, Picture, Wanted
from providers.wire import json, refusal_body, result_images

#: The pause between two polls of a prediction: at first, and at most.
FIRST_PAUSE_SECONDS = 0.3
MAX_PAUSE_SECONDS = 2.0
PAUSE_GROWTH = 1.3
#: A delay that it asks for between two polls is kept up to this: callers wait for the image.
MAX_DELAY_SECONDS = 10.0
#: The time-out of one poll; another follows.
POLL_SECONDS = 30.0
#: So often in a row a prediction that was just created may be unknown to the server polled.
UNKNOWN_AT_FIRST = 2

ENDED = {"succeeded", "failed", "canceled", "aborted"}
#: Statuses of a prediction that does not exist, or no longer does.
GONE = {404, 410}
#: Refusals of a poll that say nothing of the prediction.
PASSING = {408, 425, 429}

_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_URL = re.compile(r"https?://|data:", re.IGNORECASE)
#: Where a model answers with an object, its images are in the first of these that it has.
_FIELDS = ("images", "image", "output", "urls", "url")
#: How models say that a prompt, or what came of it, is not to be shown.
_CONTENT = re.compile(
    r"nsfw|flagged|\bE005\b|sensitive content|content policy|moderation"
    r"|safety (system|checker|filter)",
    re.IGNORECASE,
)


class Replicate(ImageProvider):
    name = "replicate"

    def draw(
        self, wanted: Wanted, key: str, call: Call, on_started: Callable[[str], None]
    ) -> Drawn:
        prediction = self._create(wanted, key, call)
        id = _checked_id(prediction.get("id"))
        on_started(id)
        polls = self._poll(id, key, call, UNKNOWN_AT_FIRST)
        return _drawn(_last([prediction], polls, wanted.count), wanted, call)

    def resume(self, operation_id: str, wanted: Wanted, key: str, call: Call) -> Drawn:
        polls = self._poll(_checked_id(operation_id), key, call, 0)
        return _drawn(_last([], polls, wanted.count), wanted, call)

    def cancel(self, operation_id: str, key: str, call: Call) -> None:
        url = f"{_url_of(_checked_id(operation_id))}/cancel"
        response = http.send_without_body(call, "POST", url, _headers(key))
        if response.status in GONE:
            raise _unknown(operation_id)
        if response.status >= 400:
            raise self._refusal_later(response)

    def _create(self, wanted: Wanted, key: str, call: Call) -> dict[str, Any]:
        """Create a prediction, and return it as it is then."""
        url, payload = _request(wanted)
        body = http.encode_json(payload)
        with http.create(call, url, _headers(key), body, "application/json") as answer:
            response = answer.whole()
        if response.status >= 400:
            raise self.refusal(response)
        return json.as_object(json.decoded(self.name, response.content))

    def _poll(
        self, id: str, key: str, call: Call, unknown_at_first: int
    ) -> Iterator[dict[str, Any]]:
        """Yield the prediction each time it is polled, until `call` is over.

        A poll that fails says nothing of the prediction, and yields nothing.
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
        """Ask for the prediction; None if no response comes."""
        try:
            with child_call(call, POLL_SECONDS) as poll_call:
                return http.send_without_body(poll_call, "GET", _url_of(id), _headers(key))
        except (ProviderFailed, ProviderTimeout):
            call.check()
            return None

    def _read(self, response: Response) -> dict[str, Any]:
        """Return the prediction; an empty one if something else came, such as a page."""
        try:
            return json.as_object(json.decoded(self.name, response.content))
        except ProviderFailed:
            return {}

    def _delay(self, id: str, response: Response) -> float:
        """Return the seconds that a refusal asks to wait; raise it if it is final."""
        if response.status in GONE:
            raise _unknown(id)
        error = self._refusal_later(response)
        if response.status < 500 and response.status not in PASSING:
            raise error
        return min(error.stated_delay or 0.0, MAX_DELAY_SECONDS)

    def _refusal_later(self, response: Response) -> LikeDoError:
        """Return the error for a refusal after the prediction was created."""
        error = self.refusal(response)
        if isinstance(error, InvalidRequest):
            # It is not about the caller's request.
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
    """Return the addresses of the images in a prediction's `output`, whatever its form.

    A string, a list of them, an object that has them, or nothing; text is no address.
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


def _request(wanted: Wanted) -> tuple[str, dict[str, Any]]:
    """Return the URL to create a prediction at, and what to send there."""
    base_url = settings.base_url_of(Replicate.name)
    count = {"num_outputs": wanted.count} if wanted.count > 1 else {}
    given = {"input": {**wanted.sent, "prompt": wanted.prompt, **count}}
    model, _, version = wanted.model.partition(":")
    if version:
        return f"{base_url}/predictions", {"version": version, **given}
    return f"{base_url}/models/{model}/predictions", given


def _url_of(id: str) -> str:
    return f"{settings.base_url_of(Replicate.name)}/predictions/{id}"


def _checked_id(id: Any) -> str:
    """Return `id`, if it can be put into a URL as it is."""
    if isinstance(id, str) and _ID.fullmatch(id):
        return id
    raise ProviderFailed("replicate began something and gave it no usable id.")


def _unknown(id: str) -> ProviderFailed:
    return ProviderFailed(f"replicate does not know, or no longer, what it began as {id}.")


def _last(
    seen: list[Mapping[str, Any]], polls: Iterator[dict[str, Any]], count: int
) -> Mapping[str, Any]:
    """Return the prediction when it is over, or when as many images as are wanted are there."""
    for prediction in itertools.chain(seen, polls):
        if json.as_text(prediction.get("status")) in ENDED:
            return prediction
        if len(image_urls(prediction.get("output"))) >= count:
            return prediction
    raise AssertionError("Polling has no end.")


def _drawn(prediction: Mapping[str, Any], wanted: Wanted, call: Call) -> Drawn:
    """Return the images of a prediction that is over."""
    urls = image_urls(prediction.get("output"))[: wanted.count]
    if not urls:
        raise failure(prediction)
    base_url = settings.base_url_of(Replicate.name)
    downloads = [
        partial(result_images.download, call, url, wanted.folder, base_url) for url in urls
    ]
    files = result_images.side_by_side(downloads)
    outcomes = [Picture(file) if isinstance(file, Path) else file for file in files]
    return image.drawn(outcomes, wanted.count, failure(prediction))


def failure(prediction: Mapping[str, Any]) -> LikeDoError:
    """Return why a prediction that is over has no image, or too few."""
    status, said = map(json.as_text, (prediction.get("status"), prediction.get("error")))
    if status == "failed":
        return _failed(refusal_body.scrub(said))
    if status in ("canceled", "aborted"):
        return ProviderFailed(f"replicate's work was {status} before the image was there.")
    if prediction.get("data_removed"):
        return ProviderFailed("replicate removed the images before they were fetched.")
    return ProviderFailed("replicate made fewer images than it was asked for.")


def _failed(said: str) -> LikeDoError:
    # It ran, and may be paid for.
    if _CONTENT.search(said):
        return ContentPolicyViolation(said)
    return ProviderFailed(f"replicate failed: {said}" if said else "replicate failed.")


images = Replicate()
