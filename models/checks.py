"""Validation of requests: wrong types and ranges reported in the API's own words."""

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, WrapValidator

from models.errors import InvalidRequest, MissingParameter, UnsupportedParameter

#: The entries of an object that are validated before the first errors are reported. pydantic makes
#: an error of each wrong one, which takes seconds for some hundred thousand.
ENTRIES_AT_A_TIME = 200

Location = tuple[int | str, ...]

#: The type of a validator's error that becomes an `UnsupportedParameter`.
UNSUPPORTED = "unsupported"

M = TypeVar("M", bound=BaseModel)


class Strict(BaseModel):
    """JSON types are not coerced: a number in quotes is not a number. Unknown fields are kept."""

    model_config = ConfigDict(strict=True, extra="allow")


def _validate_some(value: Any, validate: Callable[[Any], Any]) -> Any:
    if not isinstance(value, dict):
        return validate(value)
    entries = iter(value.items())
    while some := dict(islice(entries, ENTRIES_AT_A_TIME)):
        validate(some)
    return value


#: For objects with any number of typed values: validation stops at the first errors.
StopsEarly = WrapValidator(_validate_some)


def read(kind: type[M], body: Any, example: str, context: Any = None) -> M:
    """Return `body`, decoded JSON, as `kind`; raise the most precise `InvalidRequest`.

    `example` shows an object of this `kind`, for the message if `body` is no object. `context` is
    passed on to the validators.
    """
    if not isinstance(body, dict):
        raise InvalidRequest(f"The body must be a JSON object: {example}.")
    try:
        return kind.model_validate(body, context=context)
    except ValidationError as error:
        raise _translate(error, body) from None


def _translate(error: ValidationError, body: dict[str, Any]) -> InvalidRequest:
    """Return the most informative problem in the API's own words."""
    return translate(error.errors(include_url=False), body)


def translate(problems: Sequence[Any], body: dict[str, Any]) -> InvalidRequest:
    """Return the most informative of pydantic's `problems` with `body` in the API's own words."""
    problem = _most_informative(problems)
    kind = problem["type"]
    missing = kind in ("missing", "union_tag_not_found")
    param = _path(problem["loc"], body, ends_in_a_name=kind == "missing")
    if kind.startswith("union_tag"):
        param += "." + problem["ctx"]["discriminator"].strip("'")
    if missing:
        return MissingParameter(f"Missing required parameter: '{param}'.", param=param)
    if kind == UNSUPPORTED:
        return UnsupportedParameter(f"'{param}' is not supported: {problem['msg']}.", param=param)
    rule = _rule(problem)
    if kind in _TYPES:
        rule = _types_at(param, problems, body)
    return InvalidRequest(f"Invalid value for '{param}': {rule}.", param=param)


#: JSON's name of the expected type, by pydantic's name of the problem.
_TYPES = {
    "string_type": "a string",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
}


def _types_at(param: str, problems: Sequence[Any], body: dict[str, Any]) -> str:
    """Return every type that the union at `param` accepts, as a phrase."""
    allowed = [
        _TYPES[problem["type"]]
        for problem in problems
        if problem["type"] in _TYPES and _path(problem["loc"], body, False) == param
    ]
    return "it must be " + " or ".join(dict.fromkeys(allowed))


def _most_informative(problems: Sequence[Any]) -> Any:
    """Return the most informative problem.

    Among a union's members, a violated rule is more informative than a wrong type, and the deepest
    problem is about the member that was meant.
    """
    top = problems[0]["loc"][:1]
    return max(
        (problem for problem in problems if problem["loc"][:1] == top),
        key=lambda problem: (not problem["type"].endswith("_type"), len(problem["loc"])),
    )


def _path(location: Location, body: Any, ends_in_a_name: bool) -> str:
    """Return pydantic's `location` as a path such as `messages[0].content[1].image_url.url`.

    pydantic inserts the names of union members between the steps. A step that does not exist in
    the body is such a name, except the last step of a missing parameter.
    """
    path, value = "", body
    for number, step in enumerate(location, 1):
        if isinstance(step, int) and isinstance(value, list) and step < len(value):
            path, value = f"{path}[{step}]", value[step]
        elif isinstance(value, dict) and step in value:
            path, value = _join(path, step), value[step]
        elif ends_in_a_name and number == len(location):
            path = _join(path, step)
    return path


def _join(path: str, step: int | str) -> str:
    return f"{path}.{step}" if path else str(step)


def _rule(problem: Any) -> str:
    """Return what is allowed, as a phrase."""
    context = problem.get("ctx", {})
    match problem["type"]:
        case "greater_than_equal":
            return f"it must be at least {_number(context['ge'])}"
        case "less_than_equal":
            return f"it must be at most {_number(context['le'])}"
        case "less_than":
            return f"it must be less than {_number(context['lt'])}"
        case "literal_error":
            return f"it must be one of {context['expected']}"
        case "union_tag_invalid":
            return f"it must be one of {context['expected_tags']}"
        case "string_pattern_mismatch":
            return f"it must match {context['pattern']}"
        case "value_error":
            return str(context["error"])
        case "too_short" | "string_too_short":
            return "it must not be empty"
        case "too_long":
            return f"it must have at most {context['max_length']} items"
        case _:
            text = problem["msg"]
            return f"{text[0].lower()}{text[1:]}".replace("input should be", "it must be")


def _number(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
