"""The tables of the catalogue: plans, models, their routes, features and prices."""

import datetime
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from config.catalog.fields import (
    Amount,
    Count,
    ImageTakes,
    LinkedImageRoute,
    LinkedRoute,
    Quality,
    Ratio,
    Seconds,
    Sent,
    Size,
    Style,
    Table,
    Takes,
    Text,
    WholeCredits,
)

#: Sizes in pixels that every image model offers here, even if its vendor's does not.
DOCUMENTED_SIZES = ("256x256", "512x512", "1024x1024")
#: Maximum of images of a request whose caller waits for them.
MAX_IMAGES = 4


class Plan(Table):
    name: str
    requests_per_hour: Count
    #: Jobs of one account and kind in the queue or running; further ones wait.
    max_running: Count
    #: Bytes that an account may keep in files, unfinished batches and asynchronous jobs.
    max_stored_bytes: Count = 512 * 1024 * 1024


class ChatPrice(Table):
    """Credits for 1000 tokens, exact."""

    prompt: Amount
    completion: Amount


def plain(credits: Fraction) -> int | str:
    """Return credits for JSON: an integer if they are whole, else a string, which is exact."""
    if credits.denominator == 1:
        return credits.numerator
    # The file holds decimals only, so the division is exact.
    return f"{Decimal(credits.numerator) / Decimal(credits.denominator):f}"


class ChatDefaults(Table):
    """Values of a chat model whose own table does not set them."""

    price: ChatPrice
    default_output_tokens: Count
    created: datetime.date


class ImagePrice(Table):
    """Credits for one image."""

    standard: WholeCredits
    hd: WholeCredits

    def each(self, quality: str) -> int:
        """Return the credits for one image; `high` is another name of the quality `hd`."""
        return self.hd if quality in ("hd", "high") else self.standard


class ImageDefaults(Table):
    price: ImagePrice = ImagePrice(standard=10, hd=15)


class MaxPrice(Table):
    """The most that OpenRouter may pay a vendor, in US dollars: its `provider.max_price`."""

    #: For a million tokens.
    prompt: Amount = Fraction(10)
    completion: Amount = Fraction(50)
    #: For a request, whatever its tokens.
    request: Amount = Fraction(0)

    def as_json(self) -> dict[str, float]:
        return {name: float(amount) for name, amount in self}


class UnlistedDefaults(Table):
    """Values of the models that the file does not list, which only OpenRouter knows."""

    max_price: MaxPrice = MaxPrice()
    #: The longest context that such a model may have.
    context_tokens: Count = 1_048_576


class Defaults(Table):
    chat: ChatDefaults
    image: ImageDefaults = ImageDefaults()
    unlisted: UnlistedDefaults = UnlistedDefaults()


class Timeouts(Table):
    """Seconds that a provider may be silent; `JOB_TIMEOUT_SECONDS` limits the whole call."""

    #: Until a stream's first token: of a reasoning model, and of any other.
    thinking_seconds: Seconds = 300.0
    first_token_seconds: Seconds = 120.0
    between_tokens_seconds: Seconds = 90.0

    def first_token(self, reasoning: bool) -> float:
        return self.thinking_seconds if reasoning else self.first_token_seconds


class VendorModel(Table):
    """One model of one provider, by the vendor's own name."""

    provider: str
    id: str
    #: The day on which its vendor shuts it down.
    retires: datetime.date | None = None

    @property
    def name(self) -> str:
        """Its name in the catalogue, `provider:id`."""
        return f"{self.provider}:{self.id}"

    def is_retired(self, day: datetime.date) -> bool:
        """Tell whether its vendor has shut it down by `day`."""
        return self.retires is not None and self.retires <= day


class Upstream(VendorModel):
    """A chat model, with its vendor's limits and features."""

    context_tokens: Count | None = None
    max_output_tokens: Count | None = None
    #: The features that the model supports, in words of `TAKES`.
    takes: Takes = frozenset()
    #: Whether it reasons before it answers, unless a parameter turns that off. OpenAI's reasoning
    #: models name the limit `max_completion_tokens` and reject a temperature.
    reasoning: bool = False
    usd_per_million_input: Amount | None = None
    usd_per_million_output: Amount | None = None


class Route(Table):
    """One way to serve a model: the upstream model, and the parameters always sent to it."""

    upstream: Upstream
    #: Parameters sent unless the caller sets them, such as `{"reasoning_effort": "none"}`.
    extra: Sent = {}

    @property
    def provider(self) -> str:
        return self.upstream.provider

    @property
    def reasons(self) -> bool:
        """Whether it reasons before it answers, unless the caller turns that off."""
        if effort := self.extra.get("reasoning_effort"):
            return bool(effort != "none")
        if isinstance(thinking := self.extra.get("thinking"), dict):
            return bool(thinking.get("type") != "disabled")
        return self.upstream.reasoning


class Model(Table):
    """A model that callers name, and the routes that serve it, the preferred one first."""

    id: str
    kind: Literal["chat"] = "chat"
    owned_by: Text
    created: datetime.date
    routes: Annotated[tuple[Annotated[Route, LinkedRoute], ...], Field(min_length=1, strict=False)]
    price: ChatPrice
    default_output_tokens: Count
    #: The id of the model that replaces it once its vendor has retired it.
    successor: str | None = None


class FreeSizes(Table):
    """Sizes that a model makes beside the listed ones: all within these limits, in pixels."""

    #: The fields sent for such a size; `{width}` and `{height}` are replaced by the numbers.
    sends: Sent
    multiple_of: Count
    longest_side: Count
    most_aspect: Ratio
    least_pixels: Count
    most_pixels: Count

    def have(self, width: int, height: int) -> bool:
        """Tell whether the size is within the limits."""
        longest, shortest = max(width, height), min(width, height)
        return (
            width % self.multiple_of == height % self.multiple_of == 0
            and longest <= self.longest_side
            and longest <= shortest * self.most_aspect
            and self.least_pixels <= width * height <= self.most_pixels
        )


class ImageUpstream(VendorModel):
    """An image model, and the fields sent for each size, quality and style it supports."""

    #: The sizes that the model itself makes.
    sizes: Annotated[dict[Size, Sent], Field(min_length=1)]
    free_sizes: FreeSizes | None = None
    qualities: Annotated[dict[Quality, Sent], Field(min_length=1)]
    styles: dict[Style, Sent] = {}
    #: Sent with every request.
    sends: Sent = {}
    #: Further features that the model supports, in words of `IMAGE_TAKES`.
    takes: ImageTakes = frozenset()
    images_per_call: Count = 1
    prompt_characters: Count | None = None
    usd_per_image: Amount | None = None


class ImageRoute(Table):
    """One way to serve an image model: the upstream model, and how it differs from it."""

    upstream: ImageUpstream
    #: The fields sent for a quality, in place of the upstream model's.
    own_qualities: dict[Quality, Sent] = Field(default={}, alias="qualities")
    #: Text added to the prompt for a style that the upstream model does not support.
    style_prompts: dict[Style, Text] = {}

    @property
    def provider(self) -> str:
        return self.upstream.provider

    @property
    def qualities(self) -> Mapping[str, Mapping[str, Any]]:
        """The fields sent for each quality."""
        return {**self.upstream.qualities, **self.own_qualities}

    @property
    def styles(self) -> frozenset[str]:
        return frozenset({*self.upstream.styles, *self.style_prompts})


class ImageModel(Table):
    """An image model that callers name, and the routes that serve it."""

    kind: ClassVar[str] = "image"

    id: str
    owned_by: Text
    created: datetime.date
    routes: Annotated[
        tuple[Annotated[ImageRoute, LinkedImageRoute], ...], Field(min_length=1, strict=False)
    ]
    price: ImagePrice
    #: Whether answers hold base64 beside links by default, as base64 is its vendor's default.
    answers_base64: bool = False
    successor: str | None = None
