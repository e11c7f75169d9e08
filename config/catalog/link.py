"""Complete the file's raw tables before they are validated.

Each table gets the facts in its own name, the defaults that it does not override, and, in its
routes, the upstream models in place of their names.
"""

from collections.abc import Callable, Mapping
from typing import Any

from config.catalog.fields import KeyPath, invalid

#: Returns the upstream model called by a name; the name itself if there is none.
FindUpstream = Callable[[str], object]


def complete(
    tables: object,
    facts_of: Callable[[str], dict[str, Any]],
    defaults: Mapping[str, Any] | None = None,
    find_upstream: FindUpstream | None = None,
) -> object:
    """Return `tables` completed; a value that is no table stays as it is, for validation to reject.

    `facts_of` returns the keys that a table's name sets. Raises a `ValidationError` if a table sets
    one of them itself.
    """
    if not isinstance(tables, dict):
        return tables
    completed: dict[object, object] = {}
    mistakes: list[tuple[KeyPath, str]] = []
    for name, table in tables.items():
        if isinstance(table, dict):
            facts = facts_of(name)
            mistakes += [((name, key), "there is no such key") for key in facts.keys() & table]
            table = {**(defaults or {}), **table, **facts}
            if find_upstream and isinstance(routes := table.get("routes"), list):
                table["routes"] = [_linked(route, find_upstream) for route in routes]
        completed[name] = table
    if mistakes:
        raise invalid(mistakes)
    return completed


def _linked(route: object, find_upstream: FindUpstream) -> object:
    """Return a route with its upstream model; the name alone is a route, too."""
    if isinstance(route, str):
        return {"upstream": find_upstream(route)}
    if isinstance(route, dict) and isinstance(name := route.get("upstream"), str):
        return {**route, "upstream": find_upstream(name)}
    return route
