"""Images by Stability AI: its Stable Image models, one image a call, and the engines before them.

https://platform.stability.ai/docs/api-reference
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from config.settings import settings
from models.errors import ContentPolicyViolation, LikeDoError, ProviderFailed
from net import http
from net.answer import Answer, Response
from net.call import Call
from providers import image
from providers.image import Drawn, ImageProvider, Picture, Wanted
from providers.wire import answer as wire_answer
from providers.wire import files, json, spooling

#: The path of each Stable Image model, and the field that tells those of one path apart.
STABLE_IMAGE: dict[str, tuple[str, dict[str, str]]] = {
    "stable-image-core": ("core", {}),
    "stable-image-ultra": ("ultra", {}),
    "sd3.5-large": ("sd3", {"model": "sd3.5-large"}),
    "sd3.5-large-turbo": ("sd3", {"model": "sd3.5-large-turbo"}),
    "sd3.5-medium": ("sd3", {"model": "sd3.5-medium"}),
}


class Stability(ImageProvider):
    name = "stability"
    nothing_ran_statuses = frozenset({500, 503})

    def draw(
        self, wanted: Wanted, key: str, call: Call, on_started: Callable[[str], None]
    ) -> Drawn:
        if wanted.model in STABLE_IMAGE:
            return self._stable_image(wanted, key, call)
        return self._engine(wanted, key, call)

    def refusal(self, response: Response) -> LikeDoError:
        error = super().refusal(response)
        # Gateways on the way answer in JSON, too, and know nothing of what runs behind them.
        error.nothing_ran &= response.status < 500 or _has_name(response.content)
        return error

    def _stable_image(self, wanted: Wanted, key: str, call: Call) -> Drawn:
        path, model_field = STABLE_IMAGE[wanted.model]
        url = f"{_base_url()}/v2beta/stable-image/generate/{path}"
        body, content_type = http.encode_form(
            {**wanted.sent, **model_field, "prompt": wanted.prompt}
        )
        headers = _headers(key) | {"Accept": "image/*"}
        with http.create(call, url, headers, body, content_type) as answer:
            if answer.status != 200:
                raise self.refusal(answer.whole())
            return _drawn([_picture(answer, wanted.folder)], wanted)

    def _engine(self, wanted: Wanted, key: str, call: Call) -> Drawn:
        url = f"{_base_url()}/v1/generation/{wanted.model}/text-to-image"
        prompts = {"text_prompts": [{"text": wanted.prompt, "weight": 1}]}
        payload = http.encode_json({**wanted.sent, **prompts, "samples": wanted.count})
        with http.create(call, url, _headers(key), payload, "application/json") as answer:
            if answer.status != 200:
                raise self.refusal(answer.whole())
            body = spooling.read(self.name, answer, wanted.folder)
        artifacts = body if isinstance(body, list) else json.as_object(body).get("artifacts")
        outcomes = [_artifact(artifact, wanted.folder) for artifact in json.as_list(artifacts)]
        return _drawn(outcomes, wanted)


def _base_url() -> str:
    return settings.base_url_of(Stability.name)


def _headers(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def _has_name(content: bytes) -> bool:
    """Tell whether an error names itself, as all of Stability AI's own do."""
    try:
        said = json.as_object(json.decoded(Stability.name, content))
    except ProviderFailed:
        return False
    return bool(json.as_text(said.get("name")))


def _drawn(found: list[Picture | LikeDoError], wanted: Wanted) -> Drawn:
    missing = ProviderFailed("stability made fewer images than it was asked for.")
    return image.drawn(found, wanted.count, missing)


def _picture(answer: Answer, folder: Path) -> Picture:
    """Return the image that is the body of an answer, or is in it."""
    if answer.headers.get("content-type", "").startswith("image/"):
        _raise_if_withheld(answer.headers.get("finish-reason"))
        return Picture(_written_down(answer, folder))
    said = json.as_object(spooling.read(Stability.name, answer, folder))
    _raise_if_withheld(said.get("finish_reason"))
    return Picture(spooling.saved(said.get("image"), folder))


def _written_down(answer: Answer, folder: Path) -> Path:
    with files.new_file(folder) as file:
        size = 0
        for piece in answer.pieces():
            size += len(piece)
            file.write(piece)
        if not size:
            raise wire_answer.nothing(Stability.name)
        return file.path


def _artifact(artifact: Any, folder: Path) -> Picture | LikeDoError:
    found = json.as_object(artifact)
    try:
        _raise_if_withheld(found.get("finishReason"))
        return Picture(spooling.saved(found.get("base64"), folder))
    except (ContentPolicyViolation, ProviderFailed) as error:
        return error


def _raise_if_withheld(finish_reason: Any) -> None:
    """Raise the error for an image that is none: what is filtered comes blurred."""
    match json.as_text(finish_reason).upper():
        case "CONTENT_FILTERED":
            raise ContentPolicyViolation(
                "The image was withheld by the provider's content filter. Change the prompt."
            )
        case "ERROR":
            raise ProviderFailed("stability failed at this image.")


images = Stability()
