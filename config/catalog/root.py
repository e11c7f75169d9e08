"""The catalogue as a whole, and how its tables are linked while they are validated."""

import datetime
import re
from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import lru_cache
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from config.catalog.fields import KeyPath, PlanName, Table, Text, invalid
from config.catalog.link import complete
from config.catalog.model import (
    ChatDefaults,
    ChatPrice,
    Defaults,
    ImageModel,
    ImageUpstream,
    Model,
    Plan,
    Route,
    Timeouts,
    Upstream,
    VendorModel,
)
from config.catalog.provider import Provider, ProviderName
from config.providers import CHAT, IMAGES, SANDBOX, key_variable

#: `vendor/model`, as OpenRouter spells it, with an optional variant such as `:free`.
_VENDOR_MODEL = re.compile(r"~?[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(:[\w.-]+)?", re.ASCII)


def _name_facts(name: str) -> dict[str, Any]:
    return {"name": name}


def _id_facts(id: str) -> dict[str, Any]:
    return {"id": id}


def _upstream_facts(name: str) -> dict[str, Any]:
    provider, _, id = name.partition(":")
    return {"provider": provider, "id": id}


def _served_by(builtin: Iterable[str], and_own: bool) -> AfterValidator:
    """Check that an upstream's name is `provider:model`, of a provider there is."""

    def check(name: str, info: ValidationInfo) -> str:
        # Nobody knows the file's own providers if their tables are wrong.
        is_anyones = and_own and "providers" not in info.data
        own = info.data.get("providers", ()) if and_own else ()
        known = {*builtin, *own, SANDBOX}
        provider, _, id = name.partition(":")
        if not id or not (is_anyones or provider in known):
            raise ValueError(
                f"{name!r} must be a provider and a model, 'provider:model', with one of the "
                f"providers {', '.join(sorted(known))}"
            )
        return name

    return AfterValidator(check)


_UpstreamName = Annotated[str, _served_by(CHAT, and_own=True)]
_ImageUpstreamName = Annotated[str, _served_by(IMAGES, and_own=False)]

# What tables are completed with if those that they refer to are wrong themselves.
_ANY_DEFAULTS = Defaults(
    chat=ChatDefaults(
        price=ChatPrice(prompt=Fraction(1), completion=Fraction(1)),
        default_output_tokens=1,
        created=datetime.date.min,
    )
)
_ANY_UPSTREAM = Upstream(provider=SANDBOX, id="any")
_ANY_IMAGE_UPSTREAM = ImageUpstream(
    provider=SANDBOX, id="any", sizes={"1x1": {}}, qualities={"standard": {}}
)


def _finder(info: ValidationInfo, field: str, any_one: VendorModel) -> Callable[[str], object]:
    """Return a function that finds an upstream model by its name, or else returns the name."""
    found = info.data.get(field)
    return (lambda name: any_one) if found is None else (lambda name: found.get(name, name))


class Catalog(Table):
    """The whole file. Each table is validated after those that it refers to."""

    defaults: Defaults
    plans: Annotated[dict[PlanName, Plan], Field(min_length=1)]
    timeouts: Timeouts = Timeouts()
    #: The file's own, beside those that are built in.
    providers: dict[ProviderName, Provider] = {}
    upstreams: dict[_UpstreamName, Upstream] = Field(alias="upstream")
    models: Annotated[dict[Text, Model], Field(min_length=1)]
    image_upstreams: dict[_ImageUpstreamName, ImageUpstream] = Field(
        default={}, alias="image_upstream"
    )
    images: dict[Text, ImageModel] = Field(default={}, alias="image_models")

    @field_validator("plans", "providers", mode="before")
    @classmethod
    def _name(cls, tables: object) -> object:
        return complete(tables, _name_facts)

    @field_validator("upstreams", "image_upstreams", mode="before")
    @classmethod
    def _split_names(cls, tables: object) -> object:
        return complete(tables, _upstream_facts)

    @field_validator("models", mode="before")
    @classmethod
    def _complete_models(cls, tables: object, info: ValidationInfo) -> object:
        defaults = dict(info.data.get("defaults", _ANY_DEFAULTS).chat)
        return complete(tables, _id_facts, defaults, _finder(info, "upstreams", _ANY_UPSTREAM))

    @field_validator("images", mode="before")
    @classmethod
    def _complete_images(cls, tables: object, info: ValidationInfo) -> object:
        found = info.data.get("defaults", _ANY_DEFAULTS)
        defaults = {"price": found.image.price, "created": found.chat.created}
        find = _finder(info, "image_upstreams", _ANY_IMAGE_UPSTREAM)
        return complete(tables, _id_facts, defaults, find)

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        mistakes: list[tuple[KeyPath, str]] = []
        for table, models in (("models", self.models), ("image_models", self.images)):
            for id, model in models.items():
                if model.successor is not None and model.successor not in models:
                    reason = f'there is no [{table}."{model.successor}"]'
                    mistakes.append(((table, id, "successor"), reason))
        for id in self.models.keys() & self.images.keys():
            mistakes.append((("image_models", id), f'there is a [models."{id}"], too'))
        if mistakes:
            raise invalid(mistakes)
        return self

    @property
    def chat(self) -> ChatDefaults:
        return self.defaults.chat

    @property
    def chat_providers(self) -> tuple[str, ...]:
        """The providers that chat, built in and of the file; the sandbox is none of them."""
        return (*CHAT, *self.providers)

    def key_variable(self, provider: str) -> str | None:
        """Return the variable that holds a provider's keys; None if it takes no key."""
        if own := self.providers.get(provider):
            return own.key_env
        return key_variable(provider)

    def find(self, model_id: str) -> Model | None:
        """Return the model `model_id`; one made on the fly if only OpenRouter can know it."""
        if model_id in self.models:
            return self.models[model_id]
        if model_id.startswith("sandbox/") or not _VENDOR_MODEL.fullmatch(model_id):
            return None
        return _unlisted(model_id, self.chat)


@lru_cache(maxsize=1024)
def _unlisted(model_id: str, defaults: ChatDefaults) -> Model:
    # Only OpenRouter knows what the model takes, and is asked to see to it.
    upstream = Upstream(provider="openrouter", id=model_id)
    return Model(
        id=model_id,
        owned_by=model_id.partition("/")[0],
        created=defaults.created,
        routes=(Route(upstream=upstream),),
        price=defaults.price,
        default_output_tokens=defaults.default_output_tokens,
    )
