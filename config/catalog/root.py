"""The whole catalogue; its tables are linked while they are validated."""

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

#: `vendor/model` in OpenRouter's spelling, with an optional variant such as `:free`.
_VENDOR_MODEL = re.compile(r"~?[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(:[\w.-]+)?", re.ASCII)
#: Variants that are models of their own, or the same model at its cheapest. Others, such as
#: `:online` and `:nitro`, add what costs extra, or prefer what is dearer.
_PRICED_VARIANTS = frozenset({"", "free", "floor", "extended", "thinking"})
#: OpenRouter's own ids choose a model by the prompt, such as `openrouter/auto`.
_ROUTERS = ("openrouter/",)
#: Settings stored at OpenRouter: `@preset/name`, or after a model's id.
_PRESET = "@preset/"


def _name_facts(name: str) -> dict[str, Any]:
    return {"name": name}


def _id_facts(id: str) -> dict[str, Any]:
    return {"id": id}


def _upstream_facts(name: str) -> dict[str, Any]:
    provider, _, id = name.partition(":")
    return {"provider": provider, "id": id}


def _served_by(builtin: Iterable[str], and_own: bool) -> AfterValidator:
    """Return a validator of an upstream's name: `provider:model`, with a known provider.

    The known ones are `builtin`, the sandbox and, if `and_own`, the file's own providers.
    """

    def check(name: str, info: ValidationInfo) -> str:
        # If the tables of the file's own providers are invalid, any provider is accepted.
        accepts_any = and_own and "providers" not in info.data
        own = info.data.get("providers", ()) if and_own else ()
        known = {*builtin, *own, SANDBOX}
        provider, _, id = name.partition(":")
        if not id or not (accepts_any or provider in known):
            raise ValueError(
                f"{name!r} must be a provider and a model, 'provider:model', with one of the "
                f"providers {', '.join(sorted(known))}"
            )
        return name

    return AfterValidator(check)


_UpstreamName = Annotated[str, _served_by(CHAT, and_own=True)]
_ImageUpstreamName = Annotated[str, _served_by(IMAGES, and_own=False)]

# Placeholders for tables that are invalid themselves, so that the tables referring to them get no
# errors for that.
_PLACEHOLDER_DEFAULTS = Defaults(
    chat=ChatDefaults(
        price=ChatPrice(prompt=Fraction(1), completion=Fraction(1)),
        default_output_tokens=1,
        created=datetime.date.min,
    )
)
_PLACEHOLDER_UPSTREAM = Upstream(provider=SANDBOX, id="any")
_PLACEHOLDER_IMAGE_UPSTREAM = ImageUpstream(
    provider=SANDBOX, id="any", sizes={"1x1": {}}, qualities={"standard": {}}
)


def _finder(info: ValidationInfo, field: str, placeholder: VendorModel) -> Callable[[str], object]:
    """Return a function that finds an upstream model by its name, or else returns the name.

    If the table `field` is invalid, it always returns `placeholder`.
    """
    upstreams = info.data.get(field)
    if upstreams is None:
        return lambda name: placeholder
    return lambda name: upstreams.get(name, name)


class Catalog(Table):
    """The whole file. Each table is validated after those that it refers to."""

    defaults: Defaults
    plans: Annotated[dict[PlanName, Plan], Field(min_length=1)]
    timeouts: Timeouts = Timeouts()
    #: The file's own providers, beside the built-in ones.
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
        defaults = dict(info.data.get("defaults", _PLACEHOLDER_DEFAULTS).chat)
        find = _finder(info, "upstreams", _PLACEHOLDER_UPSTREAM)
        return complete(tables, _id_facts, defaults, find)

    @field_validator("images", mode="before")
    @classmethod
    def _complete_images(cls, tables: object, info: ValidationInfo) -> object:
        both = info.data.get("defaults", _PLACEHOLDER_DEFAULTS)
        defaults = {"price": both.image.price, "created": both.chat.created}
        find = _finder(info, "image_upstreams", _PLACEHOLDER_IMAGE_UPSTREAM)
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
        """The providers of chats, built-in and the file's own, without the sandbox."""
        return (*CHAT, *self.providers)

    def key_variable(self, provider: str) -> str | None:
        """Return the variable that holds a provider's keys; None if it needs no key."""
        if own := self.providers.get(provider):
            return own.key_env
        return key_variable(provider)

    def find(self, model_id: str) -> Model | None:
        """Return the model `model_id`; None if there is none.

        An id of OpenRouter's form that is not in the file becomes a model of OpenRouter, unless it
        `is_unpriced`.
        """
        if model_id in self.models:
            return self.models[model_id]
        if model_id.startswith("sandbox/") or not _VENDOR_MODEL.fullmatch(model_id):
            return None
        return None if self.is_unpriced(model_id) else _unlisted(model_id, self.chat)

    def is_unpriced(self, model_id: str) -> bool:
        """Tell whether OpenRouter would choose a model, or add to it, at a price not known here."""
        if model_id in self.models:
            return False
        variant = model_id.partition(":")[2].lower() if "/" in model_id else ""
        return (
            _PRESET in model_id
            or model_id.lower().lstrip("~").startswith(_ROUTERS)
            or variant not in _PRICED_VARIANTS
        )


@lru_cache(maxsize=1024)
def _unlisted(model_id: str, defaults: ChatDefaults) -> Model:
    # Only OpenRouter knows what the model supports, and is asked to check it.
    upstream = Upstream(provider="openrouter", id=model_id)
    return Model(
        id=model_id,
        owned_by=model_id.partition("/")[0],
        created=defaults.created,
        routes=(Route(upstream=upstream),),
        price=defaults.price,
        default_output_tokens=defaults.default_output_tokens,
    )
