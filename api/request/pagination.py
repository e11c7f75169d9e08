"""Lists in pages, as OpenAI's clients turn them."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import orjson
from flask import Response, request

from models.errors import InvalidRequest

R = TypeVar("R")

#: A number of more digits is no limit.
MAX_DIGITS = 9


def limit(unless_said: int, most: int) -> int:
    """Return how many the caller wants in a page."""
    text = request.args.get("limit")
    if text is None:
        return unless_said
    is_number = text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS
    said = int(text) if is_number else 0
    if not 1 <= said <= most:
        raise InvalidRequest(
            f"Invalid value for 'limit': it must be a whole number from 1 to {most}.", param="limit"
        )
    return said


def one_of(name: str, allowed: Iterable[str]) -> str | None:
    """Return the parameter `name`, which is one of the `allowed` where it is given."""
    value = request.args.get(name)
    known = [str(each) for each in allowed]
    if value is not None and value not in known:
        raise InvalidRequest(
            f"Invalid value for '{name}': it must be one of {', '.join(map(repr, known))}.",
            param=name,
        )
    return value


def page(found: list[R], most: int, as_json: Callable[[R], dict[str, Any]]) -> Response:
    """Answer the first `most` of what was `found`; one more says that there are more."""
    data = [as_json(row) for row in found[:most]]
    content = {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(found) > most,
    }
    return Response(orjson.dumps(content), content_type="application/json")
