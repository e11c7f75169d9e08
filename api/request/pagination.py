"""Pages of lists, with OpenAI's cursor parameters."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import orjson
from flask import Response, request

from models.errors import InvalidRequest

T = TypeVar("T")

#: Longer numbers are rejected.
MAX_DIGITS = 9


def limit(default: int, maximum: int) -> int:
    """Return the parameter `limit`, the number of items in a page."""
    text = request.args.get("limit")
    if text is None:
        return default
    is_number = text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS
    value = int(text) if is_number else 0
    if not 1 <= value <= maximum:
        raise InvalidRequest(
            f"Invalid value for 'limit': it must be a whole number from 1 to {maximum}.",
            param="limit",
        )
    return value


def one_of(name: str, allowed: Iterable[str]) -> str | None:
    """Return the parameter `name`, which must be one of `allowed`; None if it is missing."""
    value = request.args.get(name)
    known = [str(each) for each in allowed]
    if value is not None and value not in known:
        raise InvalidRequest(
            f"Invalid value for '{name}': it must be one of {', '.join(map(repr, known))}.",
            param=name,
        )
    return value


def page(rows: list[T], limit: int, as_json: Callable[[T], dict[str, Any]]) -> Response:
    """Return the first `limit` rows as a list; a further row means that there are more."""
    data = [as_json(row) for row in rows[:limit]]
    content = {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(rows) > limit,
    }
    return Response(orjson.dumps(content), content_type="application/json")
