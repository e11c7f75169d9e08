"""Reading JSON from providers without trusting it."""

import json
from collections.abc import Mapping
from typing import Any, TypeGuard

import orjson

from models import bounded_json
from models.errors import ProviderFailed

#: Far above the context and the output of any model.
MAX_TOKENS = 10**9


def decoded(provider: str, content: bytes) -> Any:
    """Decode the JSON in `content`; the result can be encoded as JSON again.

    Raises `ProviderFailed` if it is not JSON or exceeds `bounded_json.OF_ANSWER`.
    """
    try:
        return _loads(content)
    except bounded_json.TooDeep as error:
        raise _too_deep(provider) from error
    except bounded_json.TooComplex as error:
        raise ProviderFailed(f"{provider} sent an answer with too many values.") from error
    except ValueError as error:
        raise ProviderFailed(f"{provider} sent an answer that is not JSON.") from error
    except RecursionError as error:
        raise _too_deep(provider) from error


def _too_deep(provider: str) -> ProviderFailed:
    return ProviderFailed(f"{provider} sent an answer that is nested too deeply.")


def _loads(content: bytes) -> Any:
    try:
        return bounded_json.loads(content, bounded_json.OF_ANSWER)
    except orjson.JSONDecodeError:
        return orjson.loads(_without_surrogates(content))


def _without_surrogates(content: bytes) -> str:
    r"""Return the JSON without lone surrogates, such as `"\ud83d"`, which orjson refuses.

    A model that is cut off at its limit can leave one behind; the rest of its answer is valid.
    """
    text = json.dumps(json.loads(content), ensure_ascii=False)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def is_count(value: Any) -> TypeGuard[int]:
    """Tell whether `value` is a plausible count: an int, not a bool, from 0 to `MAX_TOKENS`."""
    return type(value) is int and 0 <= value <= MAX_TOKENS


def as_object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def details(error: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the `details` of one of Google's errors: objects with an `@type`."""
    return [as_object(detail) for detail in as_list(error.get("details"))]
