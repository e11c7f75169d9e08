"""The catalogue: which models there are, who serves them, what they support and cost."""

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

#: Pixels of each side that every image model offers here, whatever it makes itself.
DOCUMENTED_SIZES = ("256x256", "512x512", "1024x1024")
#: Images of one request whose caller waits for them.
MAX_IMAGES = 4


class Plan(Table):
    name: str
    requests_per_hour: Count
    #: Jobs of one account and kind in the queue or running; further ones wait.
    max_running: Count


class ChatPrice(Table):
    """Credits for 1000 tokens, exact."""

    prompt: Amount
    completion: Amount


def plain(credits: Fraction) -> int | str:
    """Return credits as JSON shows them: a string unless they are whole, so that it is exact."""
    if credits.denominator == 1:
        return credits.numerator
    # The file holds decimals only, so the division comes out even.
    return f"{Decimal(credits.numerator) / Decimal(credits.denominator):f}"


class ChatDefaults(Table):
    """What a chat model has unless its own table says otherwise."""

    price: ChatPrice
    default_output_tokens: Count
    created: datetime.date


class ImagePrice(Table):
    """Credits for one image."""

    standard: WholeCredits
    hd: WholeCredits

    def each(self, quality: str) -> int:
        """Return the credits of one image of a `quality`, by either of its names."""
        return self.hd if quality in ("hd", "high") else self.standard


class ImageDefaults(Table):
    price: ImagePrice = ImagePrice(standard=10, hd=15)


class Defaults(Table):
    chat: ChatDefaults
    image: ImageDefaults = ImageDefaults()


class Timeouts(Table):
    """How long a provider may be silent, in seconds; a call in all has `JOB_TIMEOUT_SECONDS`."""

    #: Until a stream's first token, of a model that thinks first and of one that does not.
    thinking_seconds: Seconds = 300.0
    first_token_seconds: Seconds = 120.0
    between_tokens_seconds: Seconds = 90.0

    def first_token(self, reasoning: bool) -> float:
        return self.thinking_seconds if reasoning else self.first_token_seconds


class VendorModel(Table):
    """One model of one provider, as the vendor names it."""

    provider: str
    id: str
    #: The day on which its vendor shuts it.
    retires: datetime.date | None = None

    @property
    def name(self) -> str:
        """Its name in the catalogue, `provider:id`."""
        return f"{self.provider}:{self.id}"

    def is_retired(self, day: datetime.date) -> bool:
        """Tell whether its vendor has shut it, or shuts it on `day`."""
        return self.retires is not None and self.retires <= day


class Upstream(VendorModel):
    """A chat model, as its vendor limits it."""

    context_tokens: Count | None = None
    max_output_tokens: Count | None = None
    #: What the model takes, in words of `TAKES`.
    takes: Takes = frozenset()
    #: It thinks before it answers unless told not to. OpenAI calls its limit
    #: `max_completion_tokens` then and takes no temperature.
    reasoning: bool = False
    usd_per_million_input: Amount | None = None
    usd_per_million_output: Amount | None = None


class Route(Table):
    """One way to serve an alias: the upstream model and what is always sent along."""

    upstream: Upstream
    #: Sent unless the caller says otherwise, such as `{"reasoning_effort": "none"}`.
    extra: Sent = {}

    @property
    def provider(self) -> str:
        return self.upstream.provider

    @property
    def reasons(self) -> bool:
        """Whether it thinks before it answers, unless the caller says otherwise."""
        if effort := self.extra.get("reasoning_effort"):
            return bool(effort != "none")
        if isinstance(thinking := self.extra.get("thinking"), dict):
            return bool(thinking.get("type") != "disabled")
        return self.upstream.reasoning


class Model(Table):
    """What callers name, and the routes that serve it, the preferred one first."""

    id: str
    kind: Literal["chat"] = "chat"
    owned_by: Text
    created: datetime.date
    routes: Annotated[tuple[Annotated[Route, LinkedRoute], ...], Field(min_length=1, strict=False)]
    price: ChatPrice
    default_output_tokens: Count
    #: The id that took its place once its vendor had retired it.
    successor: str | None = None


class FreeSizes(Table):
    """Sizes that a model makes beside those that are listed: any within these limits, in pixels."""

    #: `{width}` and `{height}` stand for the two numbers.
    sends: Sent
    multiple_of: Count
    longest_side: Count
    most_aspect: Ratio
    least_pixels: Count
    most_pixels: Count

    def have(self, width: int, height: int) -> bool:
        """Tell whether the size is one of them."""
        longest, shortest = max(width, height), min(width, height)
        return (
            width % self.multiple_of == height % self.multiple_of == 0
            and longest <= self.longest_side
            and longest <= shortest * self.most_aspect
            and self.least_pixels <= width * height <= self.most_pixels
        )


class ImageUpstream(VendorModel):
    """An image model, and what is sent for each size, quality and style that it has."""

    #: The sizes that the model itself makes.
    sizes: Annotated[dict[Size, Sent], Field(min_length=1)]
    free_sizes: FreeSizes | None = None
    qualities: Annotated[dict[Quality, Sent], Field(min_length=1)]
    styles: dict[Style, Sent] = {}
    #: Sent with every request.
    sends: Sent = {}
    #: What else the model takes, in words of `IMAGE_TAKES`.
    takes: ImageTakes = frozenset()
    images_per_call: Count = 1
    prompt_characters: Count | None = None
    usd_per_image: Amount | None = None


class ImageRoute(Table):
    """One way to serve an alias: the upstream model, and how it stands in for what was named."""

    upstream: ImageUpstream
    #: What is sent for a quality in place of what the upstream model says.
    own_qualities: dict[Quality, Sent] = Field(default={}, alias="qualities")
    #: What is added to the prompt for a style that the upstream model does not have.
    style_prompts: dict[Style, Text] = {}

    @property
    def provider(self) -> str:
        return self.upstream.provider

    @property
    def qualities(self) -> Mapping[str, Mapping[str, Any]]:
        """What is sent for each quality there is."""
        return {**self.upstream.qualities, **self.own_qualities}

    @property
    def styles(self) -> frozenset[str]:
        return frozenset({*self.upstream.styles, *self.style_prompts})


class ImageModel(Table):
    """What callers name to have images made, and the routes that serve it."""

    kind: ClassVar[str] = "image"

    id: str
    owned_by: Text
    created: datetime.date
    routes: Annotated[
        tuple[Annotated[ImageRoute, LinkedImageRoute], ...], Field(min_length=1, strict=False)
    ]
    price: ImagePrice
    #: Its vendor answers base64 unless something else is asked for, and we answer links and base64.
    answers_base64: bool = False
    successor: str | None = None
