"""The messages of a chat request: their types, checked some at a time.

pydantic validates a list in one call, which nothing can interrupt, and makes an error of each
problem in it. So the messages are validated in portions of `PORTION` items, other greenlets run
in between, and the first portion with an error ends it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from models import checks
from models.checks import Location, Strict
from ops import turns

#: Messages, parts and calls that are validated in one step.
PORTION = 200


class _ImageURL(Strict):
    url: Annotated[str, Field(pattern=r"^(https?://|data:)")]
    detail: Literal["auto", "low", "high"] | None = None


class _TextPart(Strict):
    type: Literal["text"]
    text: str


class _RefusalPart(Strict):
    type: Literal["refusal"]
    refusal: str


class _ImagePart(Strict):
    type: Literal["image_url"]
    image_url: _ImageURL


class _AudioPart(Strict):
    type: Literal["input_audio"]
    input_audio: dict[str, Any]


def _with_its_bytes(file: dict[str, Any]) -> dict[str, Any]:
    if file.get("file_id") is not None:
        # The vendor's store is the operator's, shared by all callers, and what a file there costs
        # cannot be told from its id.
        raise PydanticCustomError(checks.UNSUPPORTED, "send the file itself, as file_data")
    return file


class _FilePart(Strict):
    type: Literal["file"]
    file: Annotated[dict[str, Any], AfterValidator(_with_its_bytes)]


_Part = Annotated[
    _TextPart | _RefusalPart | _ImagePart | _AudioPart | _FilePart, Field(discriminator="type")
]


class _Called(Strict):
    name: Annotated[str, Field(min_length=1)]
    arguments: str


class _ToolCall(Strict):
    id: Annotated[str, Field(min_length=1)]
    type: str = "function"
    function: _Called | None = None


class _System(Strict):
    role: Literal["system", "developer"]
    content: str | list[_TextPart]


class _User(Strict):
    role: Literal["user"]
    content: str | Annotated[list[_Part], Field(min_length=1)]


class _Assistant(Strict):
    role: Literal["assistant"]
    content: str | list[_TextPart | _RefusalPart] | None = None
    tool_calls: Annotated[list[_ToolCall], Field(min_length=1)] | None = None
    function_call: _Called | None = None
    refusal: str | None = None
    audio: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _check_not_empty(self) -> Self:
        parts = (self.content, self.tool_calls, self.function_call, self.refusal, self.audio)
        if all(part is None for part in parts):
            raise ValueError("content may be null only beside tool_calls")
        return self


class _Tool(Strict):
    role: Literal["tool"]
    content: str | list[_TextPart]
    tool_call_id: Annotated[str, Field(min_length=1)]


class _Function(Strict):
    role: Literal["function"]
    content: str | None
    name: Annotated[str, Field(min_length=1)]


_Message = Annotated[_System | _User | _Assistant | _Tool | _Function, Field(discriminator="role")]


class _Portion(Strict):
    messages: list[_Message]


# ---- In portions ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Piece:
    """A message, or a part of a long one that is a message by itself, and where it is."""

    #: Of the message in its list.
    index: int
    message: Any
    #: Its messages, parts and calls.
    items: int = 1
    #: The field that has only some of its items here, from number `first` on.
    field: str | None = None
    first: int = 0


#: The fields of a message that are lists of any length, and what the later pieces of one repeat.
_LISTS = ("content", "tool_calls")
_REPEATED = ("role", "tool_call_id")


def check(messages: Sequence[Any]) -> None:
    """Raise the most precise `InvalidRequest` for the first of the `messages` with a problem."""
    for portion in _portions(_pieces(messages)):
        body = {"messages": [piece.message for piece in portion]}
        try:
            _Portion.model_validate(body)
        except ValidationError as error:
            problems = [
                problem | {"loc": _in_request(problem["loc"], portion)}
                for problem in error.errors(include_url=False)
            ]
            raise checks.translate(problems, {"messages": messages}) from None
        turns.pause()


def _portions(pieces: Iterable[_Piece]) -> Iterator[list[_Piece]]:
    portion: list[_Piece] = []
    items = 0
    for piece in pieces:
        portion.append(piece)
        items += piece.items
        if items >= PORTION:
            yield portion
            portion, items = [], 0
    if portion:
        yield portion


def _pieces(messages: Sequence[Any]) -> Iterator[_Piece]:
    for index, message in enumerate(messages):
        fields = message if isinstance(message, dict) else {}
        lengths = {name: len(fields[name]) for name in _LISTS if isinstance(fields.get(name), list)}
        if max(lengths.values(), default=0) <= PORTION:
            yield _Piece(index, message, 1 + sum(lengths.values()))
        else:
            yield from _pieces_of(index, fields, lengths)


def _pieces_of(index: int, message: dict[str, Any], lengths: dict[str, int]) -> Iterator[_Piece]:
    beginning = message | {name: message[name][:PORTION] for name in lengths}
    yield _Piece(index, beginning, 2 * PORTION)
    repeated = {name: message[name] for name in _REPEATED if name in message}
    for name, length in lengths.items():
        for first in range(PORTION, length, PORTION):
            some = {name: message[name][first : first + PORTION]}
            yield _Piece(index, repeated | some, PORTION, name, first)


def _in_request(location: Location, portion: Sequence[_Piece]) -> Location:
    """Return where in the request a problem is that pydantic found at `location` in a portion."""
    if len(location) < 2 or not isinstance(location[1], int):
        return location
    piece = portion[location[1]]
    moved, is_within = list(location), False
    moved[1] = piece.index
    for position, step in enumerate(location[2:], 2):
        if is_within and isinstance(step, int):
            moved[position] = step + piece.first
            break
        is_within = is_within or step == piece.field
    return tuple(moved)
