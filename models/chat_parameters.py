"""The type and range of each parameter of a chat request."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from config.catalog.load import catalog
from config.limits import MAX_MESSAGES
from models import chat_messages, checks, unpriced
from models.checks import StopsEarly, Strict
from models.errors import InvalidRequest

#: The most output tokens a caller may ask for.
MAX_OUTPUT_TOKENS = 32_000
#: The temperature if the caller names none and the model supports one.
DEFAULT_TEMPERATURE = 0.7
#: Parameters of this service. They are never sent upstream.
OWN_PARAMETERS = frozenset(
    {"provider", "background", "fallbacks", "webhook_url", "on_disconnect", "key"}
)
#: The maximum of fallback models in a request.
MAX_FALLBACKS = 10


class _FunctionDefinition(Strict):
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _ToolDefinition(Strict):
    type: Literal["function"]
    function: _FunctionDefinition


class _CustomDefinition(Strict):
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class _CustomToolDefinition(Strict):
    type: Literal["custom"]
    custom: _CustomDefinition


class _NamedFunction(Strict):
    name: Annotated[str, Field(min_length=1)]


class _FunctionChoice(Strict):
    type: Literal["function"]
    function: _NamedFunction


class _CustomChoice(Strict):
    type: Literal["custom"]
    custom: _NamedFunction


class _AllowedTools(Strict):
    type: Literal["allowed_tools"]
    allowed_tools: dict[str, Any]


_AnyTool = Annotated[_ToolDefinition | _CustomToolDefinition, Field(discriminator="type")]
_ToolChoice = Annotated[
    _FunctionChoice | _CustomChoice | _AllowedTools, Field(discriminator="type")
]


class _Schema(Strict):
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    json_schema: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None
    description: str | None = None


class _Text(Strict):
    type: Literal["text"]


class _JSONObject(Strict):
    type: Literal["json_object"]


class _JSONSchema(Strict):
    type: Literal["json_schema"]
    json_schema: _Schema


class _StreamOptions(Strict):
    include_usage: bool | None = None


_Penalty = Annotated[float, Field(ge=-2, le=2)]
_Biases = Annotated[dict[str, Annotated[float, Field(ge=-100, le=100)]], StopsEarly]
_OutputTokens = Annotated[int, Field(ge=1, le=MAX_OUTPUT_TOKENS)]
_ModelName = Annotated[str, Field(min_length=1, max_length=256)]
_StopText = Annotated[str, Field(min_length=1)]


def _known_provider(name: str) -> str:
    if name not in catalog.chat_providers:
        raise ValueError(f"it must be one of {', '.join(map(repr, catalog.chat_providers))}")
    return name


_ProviderName = Annotated[str, AfterValidator(_known_provider)]


class _Chat(Strict):
    """The type and range of each parameter. The field names are the docs'."""

    model: _ModelName
    #: Each of them is checked by `chat_messages`.
    messages: Annotated[list[Any], Field(min_length=1, max_length=MAX_MESSAGES)]
    provider: _ProviderName | dict[str, Any] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stop: _StopText | Annotated[list[_StopText], Field(min_length=1, max_length=4)] | None = None
    max_tokens: _OutputTokens | None = None
    max_completion_tokens: _OutputTokens | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    logit_bias: _Biases | None = None
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
    metadata: Annotated[dict[str, str], StopsEarly] | None = None
    store: bool | None = None
    service_tier: str | None = None
    background: bool | None = None
    fallbacks: Annotated[list[_ModelName], Field(max_length=MAX_FALLBACKS)] | None = None
    webhook_url: str | None = None
    on_disconnect: Literal["cancel", "finish"] | None = None


#: All parameters known here, except this service's own `key`.
PARAMETERS = frozenset(_Chat.model_fields)


def check(body: Any) -> None:
    """Raise the most precise `InvalidRequest` that a chat request's decoded `body` deserves.

    Other greenlets run meanwhile.
    """
    chat = checks.read(_Chat, body, '{"model": …, "messages": […]}')
    chat_messages.check(chat.messages)
    _check_together(chat)
    unpriced.check_chat(body)


def _check_together(chat: _Chat) -> None:
    """Check the rules that concern two parameters."""
    limits = {chat.max_tokens, chat.max_completion_tokens} - {None}
    if len(limits) > 1:
        raise InvalidRequest(
            "max_tokens and max_completion_tokens mean the same; send one of them.",
            param="max_tokens",
        )
    if chat.top_logprobs and not chat.logprobs:
        raise InvalidRequest("top_logprobs needs logprobs to be true.", param="top_logprobs")
    if not chat.stream and _wishes_something(chat.stream_options):
        raise InvalidRequest(
            "stream_options is only allowed when stream is true.", param="stream_options"
        )
    if chat.tool_choice not in (None, "none", "auto") and not chat.tools:
        raise InvalidRequest("tool_choice needs tools to choose from.", param="tool_choice")


def _wishes_something(options: _StreamOptions | None) -> bool:
    return options is not None and any(dict(options).values())
