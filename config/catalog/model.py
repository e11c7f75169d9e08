"""The catalogue: which models there are, who serves them, what they support and cost."""

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any

__all__ = [
    "DOCUMENTED_SIZES",
    "MOST_IMAGES",
    "Catalog",
    "ChatDefaults",
    "ChatPrice",
    "FreeSizes",
    "ImageModel",
    "ImagePrice",
    "ImageRoute",
    "ImageUpstream",
    "Model",
    "Plan",
    "Route",
    "Timeouts",
    "Upstream",
    "plain",
]

#: Pixels of each side, as every model has them here whatever it makes itself.
DOCUMENTED_SIZES = ("256x256", "512x512", "1024x1024")
#: Jobs of hundreds of images, which may take hours: so many of one account run at a time.
MOST_BATCHES = 2
#: The most images of one request that is waited for.
MOST_IMAGES = 4

#: `vendor/model`, as OpenRouter spells it, with an optional variant such as `:free`.
_VENDOR_MODEL = re.compile(r"~?[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(:[\w.-]+)?", re.ASCII)


@dataclass(frozen=True)
class Plan:
    name: str
    requests_per_hour: int
    #: Jobs of one account and kind that run at the same time; the rest waits.
    max_running: int

    def places(self, kind: str) -> int:
        """Return how many jobs of a kind one account may have in the queue or running."""
        return min(MOST_BATCHES, self.max_running) if kind == "batch" else self.max_running


@dataclass(frozen=True)
class ChatPrice:
    """Credits for 1000 tokens, exact."""

    prompt: Fraction
    completion: Fraction


class Retiring:
    """A vendor's model, which the vendor shuts one day."""

    retires: datetime.date | None

    def is_retired(self, day: datetime.date) -> bool:
        """Tell whether its vendor has shut it, or shuts it on `day`."""
        return self.retires is not None and self.retires <= day


@dataclass(frozen=True)
class Upstream(Retiring):
    """One model of one provider, as the vendor names and limits it."""

    provider: str
    id: str
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    #: What the model takes, in words of `TAKES`.
    takes: frozenset[str] = frozenset()
    #: It thinks before it answers unless told not to. OpenAI calls its limit
    #: `max_completion_tokens` then and takes no temperature.
    reasoning: bool = False
    usd_per_million_input: Fraction | None = None
    usd_per_million_output: Fraction | None = None
    retires: datetime.date | None = None


@dataclass(frozen=True)
class Route:
    """One way to serve an alias: the upstream model and what is always sent along."""

    upstream: Upstream
    #: Sent unless the caller says otherwise, such as `{"reasoning_effort": "none"}`.
    extra: Mapping[str, Any] = field(default_factory=dict)

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


@dataclass(frozen=True)
class Model:
    """What callers name, and the routes that serve it, the preferred one first."""

    id: str
    kind: str
    owned_by: str
    created: int
    routes: tuple[Route, ...]
    price: ChatPrice
    default_output_tokens: int
    #: The id that took its place where the documented one is retired upstream.
    successor: str | None = None


@dataclass(frozen=True)
class ImagePrice:
    """Credits for one image."""

    standard: int
    hd: int

    def each(self, quality: str) -> int:
        """Return the credits of one image of a `quality`, by either of its names."""
        return self.hd if quality in ("hd", "high") else self.standard


@dataclass(frozen=True)
class FreeSizes:
    """Any size within these limits, in pixels."""

    #: `{width}` and `{height}` stand for the two numbers.
    sends: Mapping[str, Any]
    multiple_of: int
    longest_side: int
    most_aspect: Fraction
    least_pixels: int
    most_pixels: int

    def have(self, width: int, height: int) -> bool:
        """Tell whether the size is one of them."""
        longest, shortest = max(width, height), min(width, height)
        return (
            width % self.multiple_of == height % self.multiple_of == 0
            and longest <= self.longest_side
            and longest <= shortest * self.most_aspect
            and self.least_pixels <= width * height <= self.most_pixels
        )


Sent = Mapping[str, Any]


@dataclass(frozen=True)
class ImageUpstream(Retiring):
    """One model of one provider that makes images, and what is sent for what callers ask."""

    provider: str
    id: str
    #: By `WIDTHxHEIGHT` in pixels, as the model itself makes them.
    sizes: Mapping[str, Sent]
    free_sizes: FreeSizes | None = None
    qualities: Mapping[str, Sent] = field(default_factory=dict)
    styles: Mapping[str, Sent] = field(default_factory=dict)
    #: Sent with every request.
    sends: Sent = field(default_factory=dict)
    #: What else the model takes, in words of `IMAGE_TAKES`.
    takes: frozenset[str] = frozenset()
    images_per_call: int = 1
    prompt_characters: int | None = None
    usd_per_image: Fraction | None = None
    retires: datetime.date | None = None


@dataclass(frozen=True)
class ImageRoute:
    """One way to serve an alias: the upstream model, and how it stands in for what was named."""

    upstream: ImageUpstream
    #: What is sent for a quality, where that is not what the upstream model says.
    own_qualities: Mapping[str, Sent] = field(default_factory=dict)
    #: What is added to the prompt for a style that the upstream model does not have.
    style_prompts: Mapping[str, str] = field(default_factory=dict)

    @property
    def provider(self) -> str:
        return self.upstream.provider

    @property
    def qualities(self) -> Mapping[str, Sent]:
        """What is sent for each quality there is."""
        return {**self.upstream.qualities, **self.own_qualities}

    @property
    def styles(self) -> frozenset[str]:
        return frozenset({*self.upstream.styles, *self.style_prompts})


@dataclass(frozen=True)
class ImageModel:
    """What callers name to have images made, and the routes that serve it."""

    id: str
    owned_by: str
    created: int
    routes: tuple[ImageRoute, ...]
    price: ImagePrice
    #: Its vendor answers base64 where nothing else is asked for, and so are links and base64 here.
    answers_base64: bool = False
    successor: str | None = None

    kind = "image"


@dataclass(frozen=True)
class ChatDefaults:
    """What a chat model has that says nothing else."""

    price: ChatPrice
    default_output_tokens: int
    created: int


@dataclass(frozen=True)
class Timeouts:
    """How long a provider may take, in seconds; a call in all has `JOB_TIMEOUT_SECONDS`."""

    #: Until a stream's first token, of a model that thinks first and of one that does not.
    thinking_seconds: float
    first_token_seconds: float
    #: Between two tokens.
    between_tokens_seconds: float

    def first_token(self, reasoning: bool) -> float:
        return self.thinking_seconds if reasoning else self.first_token_seconds


@dataclass(frozen=True)
class Catalog:
    models: dict[str, Model]
    plans: dict[str, Plan]
    chat: ChatDefaults
    timeouts: Timeouts
    #: Those that make images; `models` are those that chat.
    images: dict[str, ImageModel] = field(default_factory=dict)

    def find(self, model_id: str) -> Model | None:
        """Return the model `model_id`; one made on the fly where it is OpenRouter's to know."""
        if model_id in self.models:
            return self.models[model_id]
        if model_id.startswith("sandbox/") or not _VENDOR_MODEL.fullmatch(model_id):
            return None
        return _unlisted(model_id, self.chat)


@lru_cache(maxsize=1024)
def _unlisted(model_id: str, defaults: ChatDefaults) -> Model:
    # What the model takes is OpenRouter's to know, and it is asked to see to it.
    upstream = Upstream("openrouter", model_id)
    return Model(
        id=model_id,
        kind="chat",
        owned_by=model_id.partition("/")[0],
        created=defaults.created,
        routes=(Route(upstream),),
        price=defaults.price,
        default_output_tokens=defaults.default_output_tokens,
    )


def plain(credits: Fraction) -> int | str:
    """Return credits as JSON shows them: what is not whole as a string, so that it stays exact."""
    if credits.denominator == 1:
        return credits.numerator
    # The file holds decimals only, so the division comes out even.
    return f"{Decimal(credits.numerator) / Decimal(credits.denominator):f}"
