"""An image request, validated by names and ranges."""

import re
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field

from config.catalog.model import MAX_IMAGES
from config.providers import IMAGES
from models import checks, unpriced
from models.checks import Strict
from models.errors import InvalidRequest, UnsupportedParameter

DEFAULT_SIZE = "1024x1024"
DEFAULT_QUALITY = "standard"
#: The maximum of images per prompt, and of prompts, in an asynchronous request.
MAX_BULK_IMAGES = 100
#: Far more than any model reads.
MAX_PROMPT_CHARACTERS = 32_000
#: The parameters that only OpenAI's newer models support.
OF_OPENAI = frozenset({"background", "moderation"})


@dataclass(frozen=True, order=True)
class Size:
    """Pixels."""

    width: int
    height: int

    @classmethod
    def read(cls, text: str) -> Self:
        width, height = text.split("x")
        return cls(int(width), int(height))

    @property
    def pixels(self) -> int:
        return self.width * self.height

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True)
class ImageRequest:
    """An image request with a validated `body`: the caller's JSON as it was sent."""

    body: dict[str, Any]

    @classmethod
    def read(cls, body: Any) -> Self:
        """Return the request in `body`, decoded JSON; raise the most precise `InvalidRequest`."""
        image = checks.read(_Image, body, '{"model": …, "prompt": …}')
        if image.stream or image.partial_images:
            param = "stream" if image.stream else "partial_images"
            raise UnsupportedParameter(
                f"'{param}' is not supported: an image is answered when it is whole.", param=param
            )
        unpriced.check_image(body)
        return cls.from_validated(body)

    @classmethod
    def from_validated(cls, body: dict[str, Any]) -> Self:
        """Return the request in a `body` that `read` accepted before; null counts as missing."""
        return cls({name: value for name, value in body.items() if value is not None})

    @property
    def model(self) -> str:
        return str(self.body["model"])

    def check_size(self, asynchronous: bool) -> None:
        """Raise `InvalidRequest` for a bulk request unless it is `asynchronous`.

        An asynchronous one raises `UnsupportedParameter` if it asks for base64.
        """
        if not (self.is_bulk or isinstance(self.body["prompt"], list)):
            return
        param = "n" if self.count > MAX_IMAGES else "prompt"
        if not asynchronous:
            what = f"at most {MAX_IMAGES}" if param == "n" else "one text"
            raise InvalidRequest(
                f"Invalid value for '{param}': it must be {what}, unless the request has "
                '"background": true.',
                param=param,
            )
        if self.is_bulk and self.response_format == "b64_json":
            raise UnsupportedParameter(
                "'response_format' of so many images can only be 'url'.", param="response_format"
            )

    @property
    def kind(self) -> str:
        """The kind of job that it becomes."""
        return "batch" if self.is_bulk else "image"

    @property
    def is_bulk(self) -> bool:
        """Whether it asks for more than a caller can wait for: many images, or several prompts."""
        return self.count > MAX_IMAGES or len(self.prompts) > 1

    @property
    def prompts(self) -> list[str]:
        given = self.body["prompt"]
        return list(given) if isinstance(given, list) else [given]

    def of_prompt(self, number: int) -> Self:
        """Return the request for the images of its prompt number `number`, from 0."""
        return replace(self, body=self.body | {"prompt": self.prompts[number]})

    @property
    def prompt(self) -> str:
        """The prompt; the first one if there are several."""
        return self.prompts[0]

    @property
    def count(self) -> int:
        """The number of images per prompt."""
        return int(self.body.get("n", 1))

    @property
    def total(self) -> int:
        """The number of images in all."""
        return self.count * len(self.prompts)

    @property
    def size(self) -> Size:
        """The size to deliver, in pixels."""
        size = self.body.get("size", DEFAULT_SIZE)
        return Size.read(DEFAULT_SIZE if size == "auto" else size)

    @property
    def quality(self) -> str:
        return str(self.body.get("quality", DEFAULT_QUALITY))

    @property
    def style(self) -> str | None:
        return self.body.get("style")

    @property
    def response_format(self) -> str | None:
        """`url` or `b64_json`; None if the caller names neither."""
        return self.body.get("response_format")

    @property
    def output_format(self) -> str:
        """`png`, `jpeg` or `webp`."""
        return str(self.body.get("output_format", "png"))

    @property
    def output_compression(self) -> int:
        """The quality of a JPEG or WebP, 0 to 100."""
        return int(self.body.get("output_compression", 100))

    @property
    def provider(self) -> str | None:
        """The provider that the caller named; None if any will do."""
        return self.body.get("provider")

    @property
    def fallbacks(self) -> list[str]:
        """The models to try, in order, if the requested one makes no image."""
        return list(dict.fromkeys(self.body.get("fallbacks") or ()))

    def for_fallback(self, model: str) -> Self:
        """Return the same request for another model, without the caller's choice of provider."""
        body = {name: value for name, value in self.body.items() if name != "provider"}
        return replace(self, body=body | {"model": model})

    @property
    def cancels_on_disconnect(self) -> bool:
        """Whether the job is cancelled when its client disconnects."""
        return bool(self.body.get("on_disconnect") == "cancel")

    @property
    def unknown(self) -> dict[str, Any]:
        """Return the parameters unknown here, for providers that speak OpenAI's protocol."""
        known = PARAMETERS | unpriced.LEFT_OUT
        return {name: value for name, value in self.body.items() if name not in known}


_SIZE = re.compile(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}", re.ASCII)


def _size(text: str) -> str:
    if text != "auto" and not _SIZE.fullmatch(text):
        raise ValueError("it must be a width and a height in pixels, such as '1024x1024'")
    return text


def _known_provider(name: str) -> str:
    if name not in IMAGES:
        raise ValueError(f"it must be one of {', '.join(map(repr, IMAGES))}")
    return name


def _check_not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("it must not be empty")
    return text


_ModelName = Annotated[str, Field(min_length=1, max_length=256)]
_Prompt = Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS), AfterValidator(_check_not_blank)]


class _Image(Strict):
    """The type and range of each parameter. The field names are OpenAI's and the docs'."""

    model: _ModelName
    prompt: _Prompt | Annotated[list[_Prompt], Field(min_length=1, max_length=MAX_BULK_IMAGES)]
    size: Annotated[str, AfterValidator(_size)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_BULK_IMAGES)] | None = None
    quality: Literal["standard", "hd", "low", "medium", "high", "auto"] | None = None
    style: Literal["vivid", "natural"] | None = None
    response_format: Literal["url", "b64_json"] | None = None
    output_format: Literal["png", "jpeg", "webp"] | None = None
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = None
    user: str | None = None
    moderation: Literal["auto", "low"] | None = None
    stream: bool | None = None
    partial_images: Annotated[int, Field(ge=0, le=3)] | None = None
    provider: Annotated[str, AfterValidator(_known_provider)] | None = None
    fallbacks: Annotated[list[_ModelName], Field(max_length=10)] | None = None
    #: A boolean: whether to answer with a job to poll. A word: OpenAI's `background` of the image.
    background: bool | Literal["transparent", "opaque", "auto"] | None = None
    webhook_url: str | None = None
    on_disconnect: Literal["cancel", "finish"] | None = None


#: All parameters known here, and this service's own `key`.
PARAMETERS = frozenset({*_Image.model_fields, "key"})
