"""Warnings about a valid catalogue: models that retire soon, tables that nothing uses."""

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

#: A model that retires within this time gets a warning.
NOTICE_DAYS = 30
#: A message names at most this many ids.
MAX_NAMED = 5


@dataclass(frozen=True)
class Note:
    """A remark about this machine's environment; the catalogue is not at fault."""

    message: str
    models: list[str]

    def as_json(self) -> dict[str, Any]:
        return {"message": self.message, "models": self.models}


@dataclass(frozen=True)
class Report:
    """A valid catalogue, with warnings about it and notes about the environment."""

    catalog: Catalog
    warnings: list[Diagnostic]
    notes: list[Note]


@dataclass(frozen=True)
class Kind:
    """The models of one kind, their upstream models, and the names of their tables."""

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
    """Check the catalogue at `path`; raise `InvalidCatalog` naming the line of every mistake."""
    source = Source.read(path)
    catalog = source.catalog()
    # If the file is not the one in use, the variables of its providers have not been read yet.
    settings.read_providers(catalog.providers)
    warnings = source.diagnostics(_warnings(catalog, today))
    return Report(catalog, warnings, list(_without_keys(catalog)))


def _warnings(catalog: Catalog, today: datetime.date) -> Iterator[tuple[KeyPath, str]]:
    yield from _plans_below_free(catalog)
    yield from _unused_providers(catalog)
    for kind in _kinds(catalog):
        yield from _unused_upstreams(kind)
        yield from _retiring_upstreams(kind, today)
        yield from _retired_models(kind, today)
        yield from _invalid_successors(kind, today)


def _plans_below_free(catalog: Catalog) -> Iterator[tuple[KeyPath, str]]:
    if (free := catalog.plans.get("free")) is None:
        return
    for name, plan in catalog.plans.items():
        for limit in ("requests_per_hour", "max_running"):
            if getattr(plan, limit) < (minimum := getattr(free, limit)):
                yield ("plans", name, limit), f"it is less than plans.free has, which is {minimum}"


def _unused_providers(catalog: Catalog) -> Iterator[tuple[KeyPath, str]]:
    used = {upstream.provider for upstream in catalog.upstreams.values()}
    for name in catalog.providers:
        if name not in used:
            yield ("providers", name), f'no upstream model belongs to it: [upstream."{name}:…"]'


def _unused_upstreams(kind: Kind) -> Iterator[tuple[KeyPath, str]]:
    used = {upstream for model in kind.models.values() for upstream in _upstreams(model)}
    for name in kind.upstreams:
        if name not in used:
            yield (kind.upstream_name, name), "no model uses it"


def _upstreams(model: Model | ImageModel) -> list[str]:
    return [route.upstream.name for route in model.routes]


def _retiring_upstreams(kind: Kind, today: datetime.date) -> Iterator[tuple[KeyPath, str]]:
    """Yield a warning for each upstream model in use that retires soon or has retired."""
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
    """Return the upstream models of `model` that are not retired by the end of `day`."""
    dates = [(name, kind.upstreams[name].retires) for name in _upstreams(model)]
    return [name for name, retires in dates if retires is None or retires > day]


def _retired_models(kind: Kind, today: datetime.date) -> Iterator[tuple[KeyPath, str]]:
    for id, model in kind.models.items():
        if not _living(kind, model, today):
            yield (kind.name, id, "routes"), "every one of them is retired, so no provider answers"


def _invalid_successors(kind: Kind, today: datetime.date) -> Iterator[tuple[KeyPath, str]]:
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
    """Return `id` and its successors in turn, up to the last, or to the first repeated one."""
    chain = [id]
    while (successor := kind.models[chain[-1]].successor) is not None:
        chain.append(successor)
        if successor in chain[:-1]:
            break
    return chain


def _without_keys(catalog: Catalog) -> Iterator[Note]:
    """Yield a note for each group of models whose providers all lack a key."""
    without_keys: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    models = [pair for kind in _kinds(catalog) for pair in kind.models.items()]
    for id, model in models:
        serving = dict.fromkeys(route.provider for route in model.routes)
        if not any(name == SANDBOX or settings.keys_of(name) for name in serving):
            without_keys[tuple(serving)].append(id)
    for names, ids in without_keys.items():
        variables = " or ".join(filter(None, map(catalog.key_variable, names)))
        answers = "the sandbox answers for" if settings.sandbox else "no provider answers for"
        yield Note(f"without {variables} {answers} {_named(ids)}", ids)
