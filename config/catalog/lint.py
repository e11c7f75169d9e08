"""What to know about a catalogue beyond its mistakes: what ends soon, and what leads nowhere."""

import datetime
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config import providers
from config.catalog.source import Kind, Place, Remark, Source, kinds
from config.catalog.tables import File, ImageModel, Model
from config.providers import key_variable
from config.settings import settings

#: What retires within this is told.
NOTICE_DAYS = 30
#: So many ids are named in a sentence.
NAMED = 5


@dataclass(frozen=True)
class Note:
    """What holds on this machine, and is no fault of the catalogue's."""

    message: str
    models: list[str]

    def as_json(self) -> dict[str, Any]:
        return {"message": self.message, "models": self.models}


@dataclass(frozen=True)
class Report:
    file: File
    warnings: list[Remark]
    notes: list[Note]


def check(path: Path, today: datetime.date) -> Report:
    """Read the catalogue at `path`; raise `InvalidCatalog` naming the line of every mistake."""
    source = Source.read(path)
    file = source.file()
    return Report(file, source.remarks(_warnings(file, today)), list(_without_keys(file)))


def _warnings(file: File, today: datetime.date) -> Iterator[tuple[Place, str]]:
    yield from _smaller_plans(file)
    for kind in kinds(file):
        yield from _unused(kind)
        yield from _retiring(kind, today)
        yield from _gone(kind, today)
        yield from _odd_successors(kind, today)


def _smaller_plans(file: File) -> Iterator[tuple[Place, str]]:
    free = dict(file.plans.free)
    for plan, table in file.plans:
        for name, most in table:
            if most < free[name]:
                yield (
                    ("plans", plan, name),
                    f"it is less than plans.free has, which is {free[name]}",
                )


def _unused(kind: Kind) -> Iterator[tuple[Place, str]]:
    used = {upstream for model in kind.models.values() for upstream in _upstreams(model)}
    for name in kind.upstreams:
        if name not in used:
            yield (kind.upstream_name, name), "no model uses it"


def _upstreams(model: Model | ImageModel) -> list[str]:
    return [route.upstream for route in model.routes]


def _retiring(kind: Kind, today: datetime.date) -> Iterator[tuple[Place, str]]:
    """Yield each upstream in use that ends soon or has ended, and who leans on it."""
    for name, upstream in kind.upstreams.items():
        day = upstream.retires
        leaning = [id for id, model in kind.models.items() if name in _upstreams(model)]
        if day is None or not leaning or (day - today).days > NOTICE_DAYS:
            continue
        alone = [id for id in leaning if not _living(kind, kind.models[id], day)]
        others = [id for id in leaning if id not in alone]
        told = [f"its vendor {_when(day, today)}"]
        told += [f"{_named(alone)} {_have(alone)} no other route"] if alone else []
        told += [f"{_named(others)} {_have(others)} another route"] if others else []
        yield (kind.upstream_name, name, "retires"), "; ".join(told)


def _when(day: datetime.date, today: datetime.date) -> str:
    days = (day - today).days
    if days <= 0:
        return f"shut it on {day}"
    return f"shuts it on {day}, in {days} {'day' if days == 1 else 'days'}"


def _have(ids: Sequence[str]) -> str:
    return "has" if len(ids) == 1 else "have"


def _named(ids: Sequence[str]) -> str:
    rest = len(ids) - NAMED
    return ", ".join(ids[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _living(kind: Kind, model: Model | ImageModel, day: datetime.date) -> list[str]:
    """Return the upstreams of `model` that are still there when `day` is over."""
    found = [(name, kind.upstreams[name].retires) for name in _upstreams(model)]
    return [name for name, retires in found if retires is None or retires > day]


def _gone(kind: Kind, today: datetime.date) -> Iterator[tuple[Place, str]]:
    for id, model in kind.models.items():
        if not _living(kind, model, today):
            yield (kind.name, id, "routes"), "every one of them is retired, so nobody answers"


def _odd_successors(kind: Kind, today: datetime.date) -> Iterator[tuple[Place, str]]:
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


def _without_keys(file: File) -> Iterator[Note]:
    """Yield the models that no provider with a key here serves, those of the same ones together."""
    found: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    models = [pair for kind in kinds(file) for pair in kind.models.items()]
    for id, model in models:
        serving = dict.fromkeys(name.partition(":")[0] for name in _upstreams(model))
        if not any(name == providers.SANDBOX or settings.keys_of(name) for name in serving):
            found[tuple(serving)].append(id)
    for names, ids in found.items():
        variables = " or ".join(key_variable(name) for name in names)
        answers = "the sandbox answers for" if settings.sandbox else "nobody answers for"
        yield Note(f"without {variables} {answers} {_named(ids)}", ids)
