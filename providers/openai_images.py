"""Images by OpenAI: `POST /images/generations`, answered when all of them are made.

Newer models answer with base64, and ever did; the older ones with a link of an hour's life, too.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from config.settings import settings
from models.errors import LikeDoError, ProviderFailed
from net import http
from net.answer import Response
from net.call import Call
from providers.image import Drawn, ImageProvider, Picture, Wanted
from providers.wire import answer as wire_answer
from providers.wire import refusal, result_images, spooling
from providers.wire.json import as_list, as_object, as_text, is_count
from providers.wire.spooling import SpooledImage

_USAGE_DETAILS = ("input_tokens_details", "output_tokens_details")
_USAGE_DETAIL = ("text_tokens", "image_tokens", "cached_tokens")


class OpenAIImages(ImageProvider):
    name = "openai"
    nothing_ran_statuses = frozenset({500, 503})
    supports_unknown = True

    def draw(
        self, wanted: Wanted, key: str, call: Call, on_started: Callable[[str], None]
    ) -> Drawn:
        url = settings.base_url_of(self.name) + "/images/generations"
        headers = {"Authorization": f"Bearer {key}"}
        sent = http.encode_json(_payload(wanted))
        with http.create(call, url, headers, sent, "application/json") as answer:
            if answer.status != 200:
                raise self.refusal(answer.whole())
            body = as_object(spooling.read(self.name, answer, wanted.folder))
        made = as_list(body.get("data"))[: wanted.count]
        if not made:
            raise self._nothing(body, answer.headers)

        pictures = self._pictures(made, call, wanted.folder)
        pictures += [self._missing() for _ in range(wanted.count - len(made))]
        if not any(isinstance(picture, Picture) for picture in pictures):
            raise next(error for error in pictures if isinstance(error, LikeDoError))
        return Drawn(pictures, usage(body.get("usage")))

    def refusal(self, response: Response) -> LikeDoError:
        """Return the error for a `response`; by OpenAI's own envelope a 500 or 503 is a failure.

        What stands between may say the same in JSON, and know nothing of what became of it.
        """
        error = super().refusal(response)
        if response.status >= 500 and not _is_enveloped(response.content):
            error.nothing_ran = False
        return error

    def _pictures(self, made: list[Any], call: Call, folder: Path) -> list[Picture | LikeDoError]:
        entries = [as_object(entry) for entry in made]
        files = result_images.side_by_side(
            [partial(self._file, call, folder, each) for each in entries]
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

    def _nothing(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> LikeDoError:
        """Return the error of an answer without images."""
        if not body.get("error"):
            return wire_answer.nothing(self.name)
        error = refusal.refusal_within(self.name, body["error"], headers)
        # It was taken for begun when the status went out, whatever the error says.
        error.nothing_ran = False
        return error

    def _missing(self) -> LikeDoError:
        return ProviderFailed(f"{self.name} made fewer images than it was asked for.")


def _payload(wanted: Wanted) -> dict[str, Any]:
    count = {"n": wanted.count} if wanted.count > 1 else {}
    return {**wanted.sent, "model": wanted.model, "prompt": wanted.prompt, **count}


def _is_enveloped(content: bytes) -> bool:
    try:
        return isinstance(as_object(orjson.loads(content)).get("error"), dict)
    except orjson.JSONDecodeError:
        return False


def usage(reported: Any) -> dict[str, Any] | None:
    """Return OpenAI's usage of an image; None where it did not count, or not in earnest."""
    found = as_object(reported)
    asked, made, total = (found.get(f"{name}_tokens") for name in ("input", "output", "total"))
    if not (is_count(asked) and is_count(made)):
        return None
    counted: dict[str, Any] = {
        "input_tokens": asked,
        "output_tokens": made,
        "total_tokens": total if total and is_count(total) else asked + made,
    }
    return counted | {
        name: _details(found[name]) for name in _USAGE_DETAILS if isinstance(found.get(name), dict)
    }


def _details(found: Mapping[str, Any]) -> dict[str, int]:
    return {name: found[name] for name in _USAGE_DETAIL if is_count(found.get(name))}
