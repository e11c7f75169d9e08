"""The catalogue, loaded once per process."""

import datetime
from pathlib import Path

from config.catalog import model as catalog_model
from config.catalog import source
from config.catalog.model import (
    Catalog,
    ChatPrice,
    FreeSizes,
    ImageModel,
    ImagePrice,
    ImageRoute,
    Plan,
    Route,
    Timeouts,
)
from config.catalog.tables import ChatDefaults, File, ImageUpstream, Model, Price, Upstream
from config.settings import settings


def load(path: Path) -> Catalog:
    """Read the catalogue at `path`; raise `InvalidCatalog` naming every line that is wrong."""
    file = source.read(path)
    chat = _chat_defaults(file.defaults.chat)
    upstreams = {name: _upstream(name, table) for name, table in file.upstream.items()}
    models = {id: _model(id, table, chat, upstreams) for id, table in file.models.items()}
    plans = {name: Plan(name, **dict(table)) for name, table in file.plans}
    timeouts = Timeouts(**{name: float(value) for name, value in file.timeouts})
    return Catalog(models, plans, chat, timeouts, _images(file, chat.created))


def _images(file: File, created: int) -> dict[str, ImageModel]:
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


def _image_upstream(name: str, table: ImageUpstream) -> catalog_model.ImageUpstream:
    provider, _, model = name.partition(":")
    free = FreeSizes(**dict(table.free_sizes)) if table.free_sizes else None
    facts = dict(table) | {"takes": frozenset(table.takes), "free_sizes": free}
    return catalog_model.ImageUpstream(provider, model, **facts)


def _chat_defaults(table: ChatDefaults) -> catalog_model.ChatDefaults:
    created = _timestamp(table.created)
    return catalog_model.ChatDefaults(_price(table.price), table.default_output_tokens, created)


def _price(table: Price) -> ChatPrice:
    return ChatPrice(table.prompt, table.completion)


def _upstream(name: str, table: Upstream) -> catalog_model.Upstream:
    provider, _, model = name.partition(":")
    return catalog_model.Upstream(
        provider, model, **dict(table) | {"takes": frozenset(table.takes)}
    )


def _model(
    id: str,
    table: Model,
    defaults: catalog_model.ChatDefaults,
    upstreams: dict[str, catalog_model.Upstream],
) -> catalog_model.Model:
    return catalog_model.Model(
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
