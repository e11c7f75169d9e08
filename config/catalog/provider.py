"""A provider that speaks OpenAI's protocol, as data: its URL, headers, and what it supports."""

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from config import providers
from config.catalog.fields import TAKES, Table, Takes, Text, one_of
from config.settings import is_setting

#: Parameters that a provider may not support, beside the words of `takes`.
PARAMETERS = frozenset(
    {
        "temperature",
        "top_p",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "top_logprobs",
        "tool_choice",
        "parallel_tool_calls",
        "functions",
        "function_call",
    }
)


def _name(name: str) -> str:
    # The column of jobs has 20 characters, and names of variables begin with it.
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,19}", name, re.ASCII):
        raise ValueError(
            f"{name!r} must be 1 to 20 small letters, digits or underscores, beginning with a "
            "letter"
        )
    if name in (*providers.BASE_URLS, providers.SANDBOX):
        raise ValueError(f"{name!r} is built in: choose another name")
    return name


def _base_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        readable = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError("it must be a URL that can be read") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not readable:
        raise ValueError("it must begin with http:// or https:// and name a host")
    if parts.query or parts.fragment:
        raise ValueError("it must end before the '?': put the rest in `query`")
    return url.rstrip("/")


def _path(path: str) -> str:
    if not path.startswith("/") or not re.fullmatch(r"[!-~]+", path):
        raise ValueError("it must begin with a slash and hold no spaces")
    if "?" in path or "#" in path:
        raise ValueError("it must end before the '?': put the rest in `query`")
    return path


def _key_env(name: str) -> str:
    if not re.fullmatch(r"[A-Z][A-Z0-9_]*", name, re.ASCII):
        raise ValueError("it must be an environment variable, such as ACME_API_KEY")
    if is_setting(name):
        raise ValueError(f"{name} is a setting of this service, and is not to be sent anywhere")
    return name


def _header_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name, re.ASCII):
        raise ValueError(f"{name!r} is not a valid header name")
    return name


def _header_value(value: str) -> str:
    if not (value.isascii() and value.isprintable()):
        raise ValueError("it holds a character that no header has")
    return value


def _drops(name: str) -> str:
    if name in TAKES | PARAMETERS:
        raise ValueError(
            f"{name!r} changes the answer and cannot be silently left out: put it into "
            "`unsupported`"
        )
    return name


ProviderName = Annotated[str, AfterValidator(_name)]
_HeaderName = Annotated[str, AfterValidator(_header_name)]
_HeaderValue = Annotated[str, AfterValidator(_header_value)]
_Unsupported = Annotated[str, AfterValidator(one_of(TAKES | PARAMETERS))]
_Dropped = Annotated[Text, AfterValidator(_drops)]


class Provider(Table):
    """A provider that speaks OpenAI's chat protocol. Only `base_url` is required."""

    name: str
    #: Every call to it starts with this; `{NAME}_BASE_URL` overrides it.
    base_url: Annotated[str, AfterValidator(_base_url)]
    #: The variable that holds its keys. None: it needs no key, and is always on.
    key_env: Annotated[str, AfterValidator(_key_env)] | None = None
    #: The header that holds only the key. None: `Authorization: Bearer KEY`.
    key_header: _HeaderName | None = None
    #: Follows the base URL; `{model}` is replaced by the upstream model's id.
    path: Annotated[str, AfterValidator(_path)] = "/chat/completions"
    query: dict[Text, str] = {}
    headers: dict[_HeaderName, _HeaderValue] = {}
    #: Its parameter for the limit of output tokens.
    output_limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    #: Features that all its models support, beside those of each model's `takes`.
    supports: Takes = frozenset()
    #: Features and parameters that none of its models supports, whatever their `takes` say.
    unsupported: Annotated[frozenset[_Unsupported], Field(strict=False)] = frozenset()
    #: Features that this service emulates for all its models.
    emulates: Annotated[frozenset[Literal["json_schema"]], Field(strict=False)] = frozenset()
    #: Parameters that it does not support and that change no answer: they are left out.
    drops: Annotated[frozenset[_Dropped], Field(strict=False)] = frozenset()
    #: Message fields of other providers' answers that this one rejects in requests.
    foreign_fields: Annotated[frozenset[Text], Field(strict=False)] | None = None
    #: Whether it supports OpenAI's custom tools.
    custom_tools: bool = False
