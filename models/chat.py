"""A chat as callers speak it: the request, checked by name and range, and what it used.

Parameters are those of the API's documentation; what each may be is OpenAI's rule unless ours
is narrower. A parameter that is not known here is kept and goes to OpenAI-shaped providers as
it came.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from config.providers import CHAT
from models import errors

#: The most output tokens a caller may ask for.
MAX_OUTPUT_TOKENS = 32_000
#: What a caller who names no temperature gets, from a model that takes one.
DEFAULT_TEMPERATURE = 0.7
#: Parameters of this service. They never go upstream.
OWN_PARAMETERS = frozenset(
    {"provider", "background", "fallbacks", "webhook_url", "on_disconnect", "key"}
)
#: The most models a caller may name to fall back on.
MAX_FALLBACKS = 10
#: Lists and objects inside each other, in one parameter. What writes JSON for us ends at 254, and
#: a request is put into other objects on its way.
MAX_NESTING = 100


@dataclass(frozen=True)
class Usage:
    """Tokens of one call, as the provider counted them or, where it did not, as we did."""

    prompt_tokens: int
    completion_tokens: int
    estimated: bool = False

    def as_json(self) -> dict[str, int]:
        """Return the tokens as OpenAI shows them."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }


@dataclass(frozen=True)
class ChatRequest:
    """A chat request whose `body` has been checked: the caller's JSON, as it came."""

    body: dict[str, Any]

    @classmethod
    def read(cls, body: Any) -> Self:
        """Return the request in `body`, decoded JSON; raise the most precise `InvalidRequest`."""
        _check(body)
        return cls.checked(body)

    @classmethod
    def checked(cls, body: dict[str, Any]) -> Self:
        """Return the request in a `body` that `read` has taken before, and is not to check again.

        What says nothing is left out: null, and how many logprobs are wanted where none are.
        """
        said = {name: value for name, value in body.items() if value is not None}
        if not said.get("logprobs"):
            said.pop("top_logprobs", None)
        return cls(said)

    @property
    def model(self) -> str:
        return str(self.body["model"])

    @property
    def fallbacks(self) -> list[str]:
        """The models to ask, in order, where the one that was asked for gives no answer."""
        return list(dict.fromkeys(self.body.get("fallbacks") or ()))

    def for_fallback(self, model: str) -> Self:
        """Return the same request to another model, whose providers the caller did not name."""
        body = {name: value for name, value in self.body.items() if name != "provider"}
        return replace(self, body=body | {"model": model})

    @property
    def messages(self) -> list[dict[str, Any]]:
        return list(self.body["messages"])

    @property
    def provider(self) -> str | None:
        """The provider the caller insists on."""
        named = self.body.get("provider")
        return named if isinstance(named, str) else None

    @property
    def routing_preference(self) -> dict[str, Any] | None:
        """OpenRouter's own `provider` object, which only OpenRouter understands."""
        named = self.body.get("provider")
        return named if isinstance(named, dict) else None

    @property
    def max_tokens(self) -> int | None:
        """The most output tokens of one choice; both names of the parameter mean the same."""
        return self.body.get("max_tokens") or self.body.get("max_completion_tokens")

    @property
    def choices(self) -> int:
        return int(self.body.get("n", 1))

    @property
    def stream(self) -> bool:
        return bool(self.body.get("stream", False))

    @property
    def include_usage(self) -> bool:
        """Whether the caller wants a stream's usage in a chunk of its own."""
        return bool((self.body.get("stream_options") or {}).get("include_usage"))

    @property
    def cancels_on_disconnect(self) -> bool:
        """Whether the call ends when its client goes away, as streams do unless told not to."""
        policy = self.body.get("on_disconnect") or ("cancel" if self.stream else "finish")
        return bool(policy == "cancel")


class _Strict(BaseModel):
    """JSON types as they are: a number in quotes is not a number."""

    model_config = ConfigDict(strict=True, extra="allow")


class _ImageURL(_Strict):
    url: Annotated[str, Field(pattern=r"^(https?://|data:)")]
    detail: Literal["auto", "low", "high"] | None = None


class _TextPart(_Strict):
    type: Literal["text"]
    text: str


class _RefusalPart(_Strict):
    type: Literal["refusal"]
    refusal: str


class _ImagePart(_Strict):
    type: Literal["image_url"]
    image_url: _ImageURL


class _AudioPart(_Strict):
    type: Literal["input_audio"]
    input_audio: dict[str, Any]


class _FilePart(_Strict):
    type: Literal["file"]
    file: dict[str, Any]


_Part = Annotated[
    _TextPart | _RefusalPart | _ImagePart | _AudioPart | _FilePart, Field(discriminator="type")
]


class _Called(_Strict):
    name: Annotated[str, Field(min_length=1)]
    arguments: str


class _ToolCall(_Strict):
    id: Annotated[str, Field(min_length=1)]
    type: str = "function"
    function: _Called | None = None


class _System(_Strict):
    role: Literal["system", "developer"]
    content: str | list[_TextPart]


class _User(_Strict):
    role: Literal["user"]
    content: str | Annotated[list[_Part], Field(min_length=1)]


class _Assistant(_Strict):
    role: Literal["assistant"]
    content: str | list[_TextPart | _RefusalPart] | None = None
    tool_calls: Annotated[list[_ToolCall], Field(min_length=1)] | None = None
    function_call: _Called | None = None
    refusal: str | None = None
    audio: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        said = (self.content, self.tool_calls, self.function_call, self.refusal, self.audio)
        if all(part is None for part in said):
            raise ValueError("content may be null only beside tool_calls")
        return self


class _Tool(_Strict):
    role: Literal["tool"]
    content: str | list[_TextPart]
    tool_call_id: Annotated[str, Field(min_length=1)]


class _Function(_Strict):
    role: Literal["function"]
    content: str | None
    name: Annotated[str, Field(min_length=1)]


_Message = Annotated[_System | _User | _Assistant | _Tool | _Function, Field(discriminator="role")]


class _FunctionDefinition(_Strict):
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _ToolDefinition(_Strict):
    type: Literal["function"]
    function: _FunctionDefinition


class _CustomDefinition(_Strict):
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class _CustomToolDefinition(_Strict):
    type: Literal["custom"]
    custom: _CustomDefinition


class _NamedFunction(_Strict):
    name: Annotated[str, Field(min_length=1)]


class _FunctionChoice(_Strict):
    type: Literal["function"]
    function: _NamedFunction


class _CustomChoice(_Strict):
    type: Literal["custom"]
    custom: _NamedFunction


class _AllowedTools(_Strict):
    type: Literal["allowed_tools"]
    allowed_tools: dict[str, Any]


_AnyTool = Annotated[_ToolDefinition | _CustomToolDefinition, Field(discriminator="type")]
_ToolChoice = Annotated[
    _FunctionChoice | _CustomChoice | _AllowedTools, Field(discriminator="type")
]


class _Schema(_Strict):
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    json_schema: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None
    description: str | None = None


class _Text(_Strict):
    type: Literal["text"]


class _JSONObject(_Strict):
    type: Literal["json_object"]


class _JSONSchema(_Strict):
    type: Literal["json_schema"]
    json_schema: _Schema


class _StreamOptions(_Strict):
    include_usage: bool | None = None


_Penalty = Annotated[float, Field(ge=-2, le=2)]
_OutputTokens = Annotated[int, Field(ge=1, le=MAX_OUTPUT_TOKENS)]
_ModelName = Annotated[str, Field(min_length=1, max_length=256)]
_StopText = Annotated[str, Field(min_length=1)]


def _known_provider(name: str) -> str:
    if name not in CHAT:
        raise ValueError(f"it must be one of {', '.join(map(repr, CHAT))}")
    return name


_ProviderName = Annotated[str, AfterValidator(_known_provider)]


class _Chat(_Strict):
    """What each parameter may be. The field names are the documentation's."""

    model: _ModelName
    messages: Annotated[list[_Message], Field(min_length=1)]
    provider: _ProviderName | dict[str, Any] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stop: _StopText | Annotated[list[_StopText], Field(min_length=1, max_length=4)] | None = None
    max_tokens: _OutputTokens | None = None
    max_completion_tokens: _OutputTokens | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    user: str | None = None
    tools: Annotated[list[_AnyTool], Field(min_length=1, max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | _ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[_FunctionDefinition], Field(min_length=1, max_length=128)] | None = (
        None
    )
    function_call: Literal["none", "auto"] | _NamedFunction | None = None
    response_format: (
        Annotated[_Text | _JSONObject | _JSONSchema, Field(discriminator="type")] | None
    ) = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = (
        None
    )
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None
    background: bool | None = None
    fallbacks: Annotated[list[_ModelName], Field(max_length=MAX_FALLBACKS)] | None = None
    webhook_url: str | None = None
    on_disconnect: Literal["cancel", "finish"] | None = None


#: The names of all parameters that are known here, save this service's own `key`.
PARAMETERS = frozenset(_Chat.model_fields)


def _check(body: Any) -> None:
    if not isinstance(body, dict):
        raise errors.InvalidRequest(
            'The body must be a JSON object: {"model": …, "messages": […]}.'
        )
    _check_nesting(body)
    try:
        chat = _Chat.model_validate(body)
    except ValidationError as error:
        raise _translate(error, body) from None
    _check_together(chat)


def _check_nesting(body: dict[str, Any]) -> None:
    for name, value in body.items():
        if nests_deeper(value, MAX_NESTING):
            raise errors.InvalidRequest(
                f"Invalid value for '{name}': it must not be nested more than {MAX_NESTING} deep.",
                param=name,
            )


def nests_deeper(value: Any, levels: int) -> bool:
    """Tell whether more than `levels` lists and objects stand inside each other in `value`."""
    level = [value] if type(value) in _NESTING else []
    for _ in range(levels):
        if not level:
            return False
        level = [inner for outer in level for inner in _inside(outer) if type(inner) in _NESTING]
    return bool(level)


_NESTING = frozenset({dict, list})


def _inside(outer: Any) -> Iterable[Any]:
    return outer.values() if type(outer) is dict else outer


def _check_together(chat: _Chat) -> None:
    """Check the rules that bind two parameters."""
    limits = {chat.max_tokens, chat.max_completion_tokens} - {None}
    if len(limits) > 1:
        raise errors.InvalidRequest(
            "max_tokens and max_completion_tokens mean the same; send one of them.",
            param="max_tokens",
        )
    if chat.top_logprobs and not chat.logprobs:
        raise errors.InvalidRequest("top_logprobs needs logprobs to be true.", param="top_logprobs")
    if not chat.stream and _wishes_something(chat.stream_options):
        raise errors.InvalidRequest(
            "stream_options is only allowed when stream is true.", param="stream_options"
        )
    if chat.tool_choice not in (None, "none", "auto") and not chat.tools:
        raise errors.InvalidRequest("tool_choice needs tools to choose from.", param="tool_choice")


def _wishes_something(options: _StreamOptions | None) -> bool:
    return options is not None and any(dict(options).values())


def _translate(error: ValidationError, body: dict[str, Any]) -> errors.InvalidRequest:
    """Say the problem that tells most in the API's own words."""
    problem = _most_telling(error)
    kind = problem["type"]
    missing = kind in ("missing", "union_tag_not_found")
    param = _path(problem["loc"], body, ends_in_a_name=kind == "missing")
    if kind.startswith("union_tag"):
        param += "." + problem["ctx"]["discriminator"].strip("'")
    if missing:
        return errors.MissingParameter(f"Missing required parameter: '{param}'.", param=param)
    rule = _rule(problem)
    if kind in _TYPES:
        rule = _types_at(param, error, body)
    return errors.InvalidRequest(f"Invalid value for '{param}': {rule}.", param=param)


#: pydantic's name of a wrong type, and what JSON calls the right one.
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


def _types_at(param: str, error: ValidationError, body: dict[str, Any]) -> str:
    """Say every type that the union at `param` takes."""
    allowed = [
        _TYPES[problem["type"]]
        for problem in error.errors(include_url=False)
        if problem["type"] in _TYPES and _path(problem["loc"], body, False) == param
    ]
    return "it must be " + " or ".join(dict.fromkeys(allowed))


def _most_telling(error: ValidationError) -> Any:
    """Of the problems of a union's members, a broken rule tells more than another type.

    Among those, the one deepest in is about the member that was meant.
    """
    problems = error.errors(include_url=False)
    top = problems[0]["loc"][:1]
    return max(
        (problem for problem in problems if problem["loc"][:1] == top),
        key=lambda problem: (not problem["type"].endswith("_type"), len(problem["loc"])),
    )


def _path(location: tuple[int | str, ...], body: Any, ends_in_a_name: bool) -> str:
    """Return `messages[0].content[1].image_url.url` for pydantic's location of it.

    pydantic puts the names of union members between the steps. The body knows better: a step
    that leads nowhere in it is such a name, save the last one of a parameter that is missing.
    """
    path, value = "", body
    for place, step in enumerate(location, 1):
        if isinstance(step, int) and isinstance(value, list) and step < len(value):
            path, value = f"{path}[{step}]", value[step]
        elif isinstance(value, dict) and step in value:
            path, value = _join(path, step), value[step]
        elif ends_in_a_name and place == len(location):
            path = _join(path, step)
    return path


def _join(path: str, step: int | str) -> str:
    return f"{path}.{step}" if path else str(step)


def _rule(problem: Any) -> str:
    """Say what is allowed, as a phrase."""
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
