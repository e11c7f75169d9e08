"""Completes the file's raw tables before they are validated.

A table is given what its own name says, the defaults that it does not override, and in its routes
the upstream models themselves in place of their names.
"""

from collections.abc import Callable, Mapping
from typing import Any

from config.catalog.fields import KeyPath, invalid

#: Returns the upstream model of a name; the name itself if there is none.
FindUpstream = Callable[[str], object]


def complete(
    tables: object,
    facts_of: Callable[[str], dict[str, Any]],
    defaults: Mapping[str, Any] | None = None,
    find_upstream: FindUpstream | None = None,
) -> object:
    """Return `tables` completed, and what is no table as it is: validation refuses it.

    `facts_of` returns what a table's name says of it. A table that sets one of these facts itself
    is refused.
    """
    if not isinstance(tables, dict):
        return tables
    found: dict[object, object] = {}
    mistakes: list[tuple[KeyPath, str]] = []
    for name, table in tables.items():
        if isinstance(table, dict):
            facts = facts_of(name)
            mistakes += [((name, key), "there is no such key") for key in facts.keys() & table]
            table = {**(defaults or {}), **table, **facts}
            if find_upstream and isinstance(routes := table.get("routes"), list):
                table["routes"] = [_linked(route, find_upstream) for route in routes]
        found[name] = table
    if mistakes:
        raise invalid(mistakes)
    return found


def _linked(route: object, find_upstream: FindUpstream) -> object:
    """Return a route with its upstream model; a name alone is a route, too."""
    if isinstance(route, str):
        return {"upstream": find_upstream(route)}
    if isinstance(route, dict) and isinstance(name := route.get("upstream"), str):
        return {**route, "upstream": find_upstream(name)}
    return route
