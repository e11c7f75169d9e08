"""Checks of single settings, and the message for an environment that cannot be used."""

from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError


def address(url: str) -> str:
    if url and not url.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    return url.rstrip("/")


def keys(keys: str) -> str:
    # Keys are sent in a header.
    if not (keys.isascii() and keys.isprintable()):
        raise ValueError("holds a character that no key has, such as the … of an example")
    return keys


def sql_url(url: str) -> None:
    from sqlalchemy import exc, make_url  # Loaded only if DATABASE_URL is set.

    try:
        make_url(url)
    except (exc.ArgumentError, ValueError):
        raise ValueError("is not a URL that can be read") from None


def redis_path(url: str) -> None:
    try:
        parts = urlsplit(url)
        number = parts.path.strip("/")
        readable = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError("is not a URL that can be read") from None
    # redis-py uses database 0 if the path is not a number.
    is_number = not number or number.isdecimal() or parts.scheme == "unix"
    if not (readable and is_number):
        raise ValueError("must end with a port and the number of a database, as in :6379/0")


def explain(error: ValidationError, secrets: Collection[str]) -> str:
    lines = [_explain_one(problem, secrets) for problem in error.errors()]
    return "likedo: the environment cannot be used:\n" + "\n".join(f"  {line}" for line in lines)


def _explain_one(problem: Any, secrets: Collection[str]) -> str:
    name = str(problem["loc"][0]).upper() if problem["loc"] else "?"
    text = problem["msg"].removeprefix("Value error, ")
    problem_text = f"{name}: {text[0].lower()}{text[1:]}"
    if name in secrets:
        return problem_text
    return f"{problem_text} (it is {_shown(str(problem['input']))!r})"


def _shown(value: str) -> str:
    """Return the beginning of `value` for logs, without the password of a URL."""
    scheme, slashes, rest = value.partition("://")
    credentials, at, host = rest.rpartition("@")
    if at:
        value = f"{scheme}{slashes}{credentials.partition(':')[0]}:***@{host}"
    elif not slashes:
        # Without a scheme any part before the @ may be a password.
        value = value.rpartition("@")[2]
    return value[:80]
