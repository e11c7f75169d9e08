"""Warnings about a catalogue that can be used: what ends soon, and what leads nowhere."""

import datetime
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.catalog.fields import KeyPath
from config.catalog.model import ImageModel, ImageUpstream, Model, Upstream
from config.catalog.root import Catalog
from config.catalog.source import Diagnostic, Source
from config.providers import SANDBOX
from config.settings import settings

#: A model that retires within this is worth a warning.
NOTICE_DAYS = 30
#: A sentence names at most so many ids.
MAX_NAMED = 5


@dataclass(frozen=True)
class Note:
    """What depends on this machine's environment and is no fault of the catalogue's."""

    message: str
    models: list[str]

    def as_json(self) -> dict[str, Any]:
        return {"message": self.message, "models": self.models}


@dataclass(frozen=True)
class Report:
    catalog: Catalog
    warnings: list[Diagnostic]
    notes: list[Note]


@dataclass(frozen=True)
class Kind:
    """The models of one kind, their upstream models, and what their tables are called."""

    name: str
    upstream_name: str
    models: Mapping[str, Model] | Mapping[str, ImageModel]
    upstreams: Mapping[str, Upstream] | Mapping[str, ImageUpstream]


def _kinds(catalog: Catalog) -> list[Kind]:
    return [
        Kind("models", "upstream", catalog.models, catalog.upstreams),
        Kind("image_models", "image_upstream", catalog.images, catalog.image_upstreams),
    ]


def check(path: Path, today: datetime.date) -> Report:
    """Read the catalogue at `path`; raise `InvalidCatalog` naming the line of every mistake."""
    source = Source.read(path)
    catalog = source.catalog()
    # The file may not be the one in use, and its own providers not be known yet.
    settings.read_providers(catalog.providers)
    warnings = source.diagnostics(_warnings(catalog, today))
    return Report(catalog, warnings, list(_without_keys(catalog)))


def _warnings(catalog: Catalog, today: datetime.date) -> Iterator[tuple[KeyPath, str]]:
    yield from _smaller_plans(catalog)
    yield from _unused_providers(catalog)
    for kind in _kinds(catalog):
        yield from _unused(kind)
        yield from _retiring(kind, today)
        yield from _gone(kind, today)
        yield from _odd_successors(kind, today)


def _smaller_plans(catalog: Catalog) -> Iterator[tuple[KeyPath, str]]:
    if (free := catalog.plans.get("free")) is None:
        return
    for name, plan in catalog.plans.items():
        for limit in ("requests_per_hour", "max_running"):
            if getattr(plan, limit) < (least := getattr(free, limit)):
                yield ("plans", name, limit), f"it is less than plans.free has, which is {least}"


def _unused_providers(catalog: Catalog) -> Iterator[tuple[KeyPath, str]]:
    used = {upstream.provider for upstream in catalog.upstreams.values()}
    for name in catalog.providers:
        if name not in used:
            yield ("providers", name), f'no upstream model is its: [upstream."{name}:…"]'


def _unused(kind: Kind) -> Iterator[tuple[KeyPath, str]]:
    used = {upstream for model in kind.models.values() for upstream in _upstreams(model)}
    for name in kind.upstreams:
        if name not in used:
            yield (kind.upstream_name, name), "no model uses it"


def _upstreams(model: Model | ImageModel) -> list[str]:
    return [route.upstream.name for route in model.routes]


def _retiring(kind: Kind, today: datetime.date) -> Iterator[tuple[KeyPath, str]]:
    """Yield each upstream model in use that ends soon or has ended, and the models it serves."""
    for name, upstream in kind.upstreams.items():
        day = upstream.retires
        served = [id for id, model in kind.models.items() if name in _upstreams(model)]
        if day is None or not served or (day - today).days > NOTICE_DAYS:
            continue
        alone = [id for id in served if not _living(kind, kind.models[id], day)]
        others = [id for id in served if id not in alone]
        parts = [f"its vendor {_when(day, today)}"]
        parts += [f"{_named(alone)} {_have(alone)} no other route"] if alone else []
        parts += [f"{_named(others)} {_have(others)} another route"] if others else []
        yield (kind.upstream_name, name, "retires"), "; ".join(parts)


def _when(day: datetime.date, today: datetime.date) -> str:
    days = (day - today).days
    if days <= 0:
        return f"shut it on {day}"
    return f"shuts it on {day}, in {days} {'day' if days == 1 else 'days'}"


def _have(ids: Sequence[str]) -> str:
    return "has" if len(ids) == 1 else "have"


def _named(ids: Sequence[str]) -> str:
    rest = len(ids) - MAX_NAMED
    return ", ".join(ids[:MAX_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _living(kind: Kind, model: Model | ImageModel, day: datetime.date) -> list[str]:
    """Return the upstream models of `model` that still live when `day` is over."""
    found = [(name, kind.upstreams[name].retires) for name in _upstreams(model)]
    return [name for name, retires in found if retires is None or retires > day]


def _gone(kind: Kind, today: datetime.date) -> Iterator[tuple[KeyPath, str]]:
    for id, model in kind.models.items():
        if not _living(kind, model, today):
            yield (kind.name, id, "routes"), "every one of them is retired, so nobody answers"


def _odd_successors(kind: Kind, today: datetime.date) -> Iterator[tuple[KeyPath, str]]:
    for id, model in kind.models.items():
        if model.successor is None:
            continue
        *chain, last = _chain(kind, id)
        if last in chain:
            yield (
                (kind.name, id, "successor"),
                f"it leads in a circle: {' → '.join([*chain, last])}",
            )
        elif not _living(kind, kind.models[last], today):
            yield (kind.name, id, "successor"), f"it leads to {last}, which is retired itself"


def _chain(kind: Kind, id: str) -> list[str]:
    """Return `id` and its successors, up to the last one or the first that comes again."""
    chain = [id]
    while (successor := kind.models[chain[-1]].successor) is not None:
        chain.append(successor)
        if successor in chain[:-1]:
            break
    return chain


def _without_keys(catalog: Catalog) -> Iterator[Note]:
    """Yield the models that no provider with a key here serves, grouped by their providers."""
    found: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    models = [pair for kind in _kinds(catalog) for pair in kind.models.items()]
    for id, model in models:
        serving = dict.fromkeys(route.provider for route in model.routes)
        if not any(name == SANDBOX or settings.keys_of(name) for name in serving):
            found[tuple(serving)].append(id)
    for names, ids in found.items():
        variables = " or ".join(filter(None, map(catalog.key_variable, names)))
        answers = "the sandbox answers for" if settings.sandbox else "nobody answers for"
        yield Note(f"without {variables} {answers} {_named(ids)}", ids)
