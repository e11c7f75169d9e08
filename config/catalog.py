"""The catalogue: which models there are, who serves them, what they take and what they cost.

An alias is what callers name. It maps to an ordered list of routes; a route is one model of one
provider. Prices and limits are data in `catalog.toml`, which says what each table means.
"""

import datetime
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

from config import catalog_file
from config.catalog_file import IMAGE_TAKES, PROVIDERS, TAKES, InvalidCatalog
from config.settings import settings

__all__ = [
    "DOCUMENTED_SIZES",
    "IMAGE_TAKES",
    "MOST_IMAGES",
    "PROVIDERS",
    "TAKES",
    "Catalog",
    "ChatDefaults",
    "ChatPrice",
    "FreeSizes",
    "ImageModel",
    "ImagePrice",
    "ImageRoute",
    "ImageUpstream",
    "InvalidCatalog",
    "Model",
    "Plan",
    "Route",
    "Timeouts",
    "Upstream",
    "as_json",
    "catalog",
    "load",
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


def as_json(
    model: Model, providers: list[str], route: Route, takes: list[str] | None
) -> dict[str, Any]:
    """Return `model` as `GET /models` shows it: OpenAI's shape, and what callers pay and get.

    `providers` are the names that the `provider` parameter takes for it; `route` is the one that
    is tried first, and `takes` what that one takes, in words of `TAKES`, or None where only the
    provider knows. A price that is not whole is a string, so that it stays exact.
    """
    upstream = route.upstream
    shown: dict[str, Any] = {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.owned_by,
        "kind": model.kind,
        "providers": providers,
        "pricing": {
            "unit": "credits per 1000 tokens",
            "prompt": plain(model.price.prompt),
            "completion": plain(model.price.completion),
        },
        "limits": {
            "context_tokens": upstream.context_tokens,
            "max_output_tokens": upstream.max_output_tokens,
            "default_output_tokens": model.default_output_tokens,
        },
        "takes": takes,
        "reasoning": None if takes is None else route.reasons,
    }
    if upstream.retires:
        shown["retires"] = upstream.retires.isoformat()
    if model.successor:
        shown["successor"] = model.successor
    return shown


def image_as_json(model: ImageModel, providers: list[str], route: ImageRoute) -> dict[str, Any]:
    """Return a model that makes images as `GET /models` shows it, `route` being tried first.

    `takes.sizes` are those that every model has here and those that the model makes itself;
    `limits.free_sizes`, where it makes others, says which, in pixels. A quality that the first
    route lacks is made by another one of the `providers`.
    """
    upstream = route.upstream
    there = [route, *(each for each in model.routes if each.provider in providers)]
    qualities = list(dict.fromkeys(name for each in there for name in each.qualities))
    shown: dict[str, Any] = {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.owned_by,
        "kind": model.kind,
        "providers": providers,
        "pricing": {
            "unit": "credits per image",
            "standard": model.price.standard,
            "hd": model.price.hd if "hd" in qualities else None,
        },
        "limits": {
            "images": MOST_IMAGES,
            "prompt_characters": upstream.prompt_characters,
            "free_sizes": _limits(upstream.free_sizes),
        },
        "takes": {
            "sizes": list(dict.fromkeys([*DOCUMENTED_SIZES, *upstream.sizes])),
            "qualities": qualities,
            "styles": sorted(route.styles),
            "parameters": sorted(upstream.takes),
        },
    }
    if upstream.retires:
        shown["retires"] = upstream.retires.isoformat()
    if model.successor:
        shown["successor"] = model.successor
    return shown


def _limits(free: FreeSizes | None) -> dict[str, int | str] | None:
    if free is None:
        return None
    limits = {name: value for name, value in asdict(free).items() if name != "sends"}
    return limits | {"most_aspect": plain(free.most_aspect)}


def plain(credits: Fraction) -> int | str:
    """Return credits as JSON shows them: what is not whole as a string, so that it stays exact."""
    if credits.denominator == 1:
        return credits.numerator
    # The file holds decimals only, so the division comes out even.
    return f"{Decimal(credits.numerator) / Decimal(credits.denominator):f}"


def load(path: Path) -> Catalog:
    """Read the catalogue at `path`; raise `InvalidCatalog` naming every line that is wrong."""
    file = catalog_file.read(path)
    chat = _chat_defaults(file.defaults.chat)
    upstreams = {name: _upstream(name, table) for name, table in file.upstream.items()}
    models = {id: _model(id, table, chat, upstreams) for id, table in file.models.items()}
    plans = {name: Plan(name, **dict(table)) for name, table in file.plans}
    timeouts = Timeouts(**{name: float(value) for name, value in file.timeouts})
    return Catalog(models, plans, chat, timeouts, _images(file, chat.created))


def _images(file: catalog_file.File, created: int) -> dict[str, ImageModel]:
    upstreams = {name: _image_upstream(name, table) for name, table in file.image_upstream.items()}
    default = file.defaults.image.price
    return {
        id: ImageModel(
            id=id,
            owned_by=table.owned_by,
            created=_timestamp(table.created) if table.created else created,
            routes=tuple(
                ImageRoute(upstreams[route.upstream], route.qualities, route.style_prompts)
                for route in table.routes
            ),
            price=ImagePrice(**dict(table.price or default)),
            answers_base64=table.answers_base64,
            successor=table.successor,
        )
        for id, table in file.image_models.items()
    }


def _image_upstream(name: str, table: catalog_file.ImageUpstream) -> ImageUpstream:
    provider, _, model = name.partition(":")
    free = FreeSizes(**dict(table.free_sizes)) if table.free_sizes else None
    facts = dict(table) | {"takes": frozenset(table.takes), "free_sizes": free}
    return ImageUpstream(provider, model, **facts)


def _chat_defaults(table: catalog_file.ChatDefaults) -> ChatDefaults:
    created = _timestamp(table.created)
    return ChatDefaults(_price(table.price), table.default_output_tokens, created)


def _price(table: catalog_file.Price) -> ChatPrice:
    return ChatPrice(table.prompt, table.completion)


def _upstream(name: str, table: catalog_file.Upstream) -> Upstream:
    provider, _, model = name.partition(":")
    return Upstream(provider, model, **dict(table) | {"takes": frozenset(table.takes)})


def _model(
    id: str, table: catalog_file.Model, defaults: ChatDefaults, upstreams: dict[str, Upstream]
) -> Model:
    return Model(
        id=id,
        kind=table.kind,
        owned_by=table.owned_by,
        created=_timestamp(table.created) if table.created else defaults.created,
        routes=tuple(Route(upstreams[route.upstream], route.extra) for route in table.routes),
        price=_price(table.price) if table.price else defaults.price,
        default_output_tokens=table.default_output_tokens or defaults.default_output_tokens,
        successor=table.successor,
    )


def _timestamp(day: datetime.date) -> int:
    midnight = datetime.datetime.combine(day, datetime.time(), datetime.UTC)
    return int(midnight.timestamp())


catalog = load(settings.catalog)
