"""Images by Stability AI: Stable Image models, with one image per call, and the older engines.

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
from providers.image import DrawRequest, DrawResult, ImageProvider, Picture
from providers.wire import answer as wire_answer
from providers.wire import files, json, spooling

#: The path of each Stable Image model, and the field that tells models of the same path apart.
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
        self, request: DrawRequest, key: str, call: Call, on_started: Callable[[str], None]
    ) -> DrawResult:
        if request.model in STABLE_IMAGE:
            return self._stable_image(request, key, call)
        return self._engine(request, key, call)

    def refusal(self, response: Response) -> LikeDoError:
        error = super().refusal(response)
        # Gateways answer in JSON, too, but do not know whether anything ran behind them.
        error.nothing_ran &= response.status < 500 or _has_name(response.content)
        return error

    def _stable_image(self, request: DrawRequest, key: str, call: Call) -> DrawResult:
        path, model_field = STABLE_IMAGE[request.model]
        url = f"{_base_url()}/v2beta/stable-image/generate/{path}"
        body, content_type = http.encode_form(
            {**request.parameters, **model_field, "prompt": request.prompt}
        )
        headers = _headers(key) | {"Accept": "image/*"}
        with http.create(call, url, headers, body, content_type) as answer:
            if answer.status != 200:
                raise self.refusal(answer.whole())
            return _result([_picture(answer, request.folder)], request)

    def _engine(self, request: DrawRequest, key: str, call: Call) -> DrawResult:
        url = f"{_base_url()}/v1/generation/{request.model}/text-to-image"
        prompts = {"text_prompts": [{"text": request.prompt, "weight": 1}]}
        payload = http.encode_json({**request.parameters, **prompts, "samples": request.count})
        with http.create(call, url, _headers(key), payload, "application/json") as answer:
            if answer.status != 200:
                raise self.refusal(answer.whole())
            body = spooling.read(self.name, answer, request.folder)
        artifacts = body if isinstance(body, list) else json.as_object(body).get("artifacts")
        outcomes = [_artifact(entry, request.folder) for entry in json.as_list(artifacts)]
        return _result(outcomes, request)


def _base_url() -> str:
    return settings.base_url_of(Stability.name)


def _headers(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def _has_name(content: bytes) -> bool:
    """Tell whether an error has a `name`, as all of Stability AI's own errors do."""
    try:
        error = json.as_object(json.decoded(Stability.name, content))
    except ProviderFailed:
        return False
    return bool(json.as_text(error.get("name")))


def _result(outcomes: list[Picture | LikeDoError], request: DrawRequest) -> DrawResult:
    missing = ProviderFailed("stability made fewer images than it was asked for.")
    return image.draw_result(outcomes, request.count, missing)


def _picture(answer: Answer, folder: Path) -> Picture:
    """Return the image of an answer, whose body is either the image or JSON with the image."""
    if answer.headers.get("content-type", "").startswith("image/"):
        _raise_if_withheld(answer.headers.get("finish-reason"))
        return Picture(_save_body(answer, folder))
    body = json.as_object(spooling.read(Stability.name, answer, folder))
    _raise_if_withheld(body.get("finish_reason"))
    return Picture(spooling.saved(body.get("image"), folder))


def _save_body(answer: Answer, folder: Path) -> Path:
    with files.new_file(folder) as file:
        size = 0
        for piece in answer.pieces():
            size += len(piece)
            file.write(piece)
        if not size:
            raise wire_answer.empty_answer(Stability.name)
        return file.path


def _artifact(entry: Any, folder: Path) -> Picture | LikeDoError:
    artifact = json.as_object(entry)
    try:
        _raise_if_withheld(artifact.get("finishReason"))
        return Picture(spooling.saved(artifact.get("base64"), folder))
    except (ContentPolicyViolation, ProviderFailed) as error:
        return error


def _raise_if_withheld(finish_reason: Any) -> None:
    """Raise the error for an image that is not to be used: filtered images come blurred."""
    match json.as_text(finish_reason).upper():
        case "CONTENT_FILTERED":
            raise ContentPolicyViolation(
                "The image was withheld by the provider's content filter. Change the prompt."
            )
        case "ERROR":
            raise ProviderFailed("stability failed at this image.")


images = Stability()
