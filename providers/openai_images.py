"""Images by OpenAI: `POST /images/generations`, answered when all images are made.

Newer models always answer with base64; older ones may answer with a link that lasts an hour.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from config.settings import settings
from models import bounded_json
from models.errors import LikeDoError, ProviderFailed
from net import http
from net.answer import Response
from net.call import Call
from providers.image import DrawRequest, DrawResult, ImageProvider, Picture
from providers.wire import answer as wire_answer
from providers.wire import refusal, result_images, spooling
from providers.wire.json import as_list, as_object, as_text, is_count
from providers.wire.spooling import SpooledImage

_DETAILS = ("input_tokens_details", "output_tokens_details")
_DETAIL_COUNTS = ("text_tokens", "image_tokens", "cached_tokens")


class OpenAIImages(ImageProvider):
    name = "openai"
    nothing_ran_statuses = frozenset({500, 503})
    supports_unknown = True

    def draw(
        self, request: DrawRequest, key: str, call: Call, on_started: Callable[[str], None]
    ) -> DrawResult:
        url = settings.base_url_of(self.name) + "/images/generations"
        headers = {"Authorization": f"Bearer {key}"}
        payload = http.encode_json(_payload(request))
        with http.create(call, url, headers, payload, "application/json") as answer:
            if answer.status != 200:
                raise self.refusal(answer.whole())
            body = as_object(spooling.read(self.name, answer, request.folder))
        entries = as_list(body.get("data"))[: request.count]
        if not entries:
            raise self._error_without_images(body, answer.headers)

        pictures = self._pictures(entries, call, request.folder)
        pictures += [self._missing() for _ in range(request.count - len(entries))]
        if not any(isinstance(picture, Picture) for picture in pictures):
            raise next(error for error in pictures if isinstance(error, LikeDoError))
        return DrawResult(pictures, usage(body.get("usage")))

    def refusal(self, response: Response) -> LikeDoError:
        """Return the error for a `response`; only OpenAI's own 500 or 503 has `nothing_ran`.

        A proxy in between may send the same status in JSON without knowing whether anything ran,
        so the body must have OpenAI's error envelope.
        """
        error = super().refusal(response)
        if response.status >= 500 and not _is_enveloped(response.content):
            error.nothing_ran = False
        return error

    def _pictures(self, data: list[Any], call: Call, folder: Path) -> list[Picture | LikeDoError]:
        entries = [as_object(entry) for entry in data]
        files = result_images.side_by_side(
            [partial(self._file, call, folder, entry) for entry in entries]
        )
        return [
            Picture(file, as_text(entry.get("revised_prompt")) or None)
            if isinstance(file, Path)
            else file
            for entry, file in zip(entries, files, strict=True)
        ]

    def _file(self, call: Call, folder: Path, entry: Mapping[str, Any]) -> Path:
        """Return the file of the image in an `entry` of `data`."""
        if image := entry.get("b64_json"):
            return spooling.saved(image, folder)
        url = entry.get("url")
        if not isinstance(url, str | SpooledImage):
            raise ProviderFailed(f"{self.name} sent an image with nothing in it.")
        return result_images.download(call, url, folder, settings.base_url_of(self.name))

    def _error_without_images(
        self, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> LikeDoError:
        """Return the error for an answer of status 200 without images."""
        if not body.get("error"):
            return wire_answer.empty_answer(self.name)
        error = refusal.refusal_within(self.name, body["error"], headers)
        # The status of 200 says that the work had begun, whatever the error says.
        error.nothing_ran = False
        return error

    def _missing(self) -> LikeDoError:
        return ProviderFailed(f"{self.name} made fewer images than it was asked for.")


def _payload(request: DrawRequest) -> dict[str, Any]:
    count = {"n": request.count} if request.count > 1 else {}
    return {**request.parameters, "model": request.model, "prompt": request.prompt, **count}


def _is_enveloped(content: bytes) -> bool:
    try:
        body = bounded_json.loads(content, bounded_json.OF_REFUSAL)
    except ValueError:
        return False
    return isinstance(as_object(body).get("error"), dict)


def usage(reported: Any) -> dict[str, Any] | None:
    """Return OpenAI's usage object for images; None if its counts are missing or implausible."""
    raw = as_object(reported)
    prompt, output, total = (raw.get(f"{name}_tokens") for name in ("input", "output", "total"))
    if not (is_count(prompt) and is_count(output)):
        return None
    counts: dict[str, Any] = {
        "input_tokens": prompt,
        "output_tokens": output,
        "total_tokens": total if total and is_count(total) else prompt + output,
    }
    return counts | {
        name: _counts(raw[name]) for name in _DETAILS if isinstance(raw.get(name), dict)
    }


def _counts(details: Mapping[str, Any]) -> dict[str, int]:
    return {name: details[name] for name in _DETAIL_COUNTS if is_count(details.get(name))}
