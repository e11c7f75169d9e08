"""The lines of a batch's input file: how the file is split and how a line is checked."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from access.key_rules import KeyRules
from jobs.kinds import KINDS
from models import bounded_json
from models.batch import MAX_CUSTOM_ID_CHARACTERS
from models.errors import InvalidRequest, LikeDoError, MissingParameter, UnsupportedParameter
from ops import turns

#: Some editors put it at the start of a file.
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Span:
    """A line in its file: its number, from 1, its offset, and its bytes without the newline."""

    number: int
    start: int
    raw: bytes


class LineError(InvalidRequest):
    """An error in a line, with OpenAI's code for it; and its number if it could not be read."""

    def __init__(
        self, openai_code: str, message: str, param: str | None = None, line: int | None = None
    ) -> None:
        super().__init__(message, param=param)
        self.openai_code = openai_code
        self.line = line


def spans(pieces: Iterable[bytes], max_bytes: int) -> Iterator[Span]:
    """Yield the lines of a file that comes in `pieces`, except for blank ones.

    Raises `LineError` for a line of more than `max_bytes`.
    """
    number, start, partial = 0, 0, bytearray()
    for piece in pieces:
        *ends, beginning = piece.split(b"\n")
        for end in turns.in_turns(ends):  # They may be blank, millions of them.
            raw = bytes(partial + end)
            partial.clear()
            number += 1
            yield from _span(number, start, raw)
            start += len(raw) + 1
        partial += beginning
        if len(partial) > max_bytes:
            message = f"This line is too long: at most {max_bytes} bytes are taken."
            raise LineError("request_too_large", message, line=number + 1)
    yield from _span(number + 1, start, bytes(partial))


def _span(number: int, start: int, raw: bytes) -> Iterator[Span]:
    if start == 0 and raw.startswith(BYTE_ORDER_MARK):
        start, raw = len(BYTE_ORDER_MARK), raw.removeprefix(BYTE_ORDER_MARK)
    if raw.strip():
        yield Span(number, start, raw)


def check(raw: bytes, endpoint: str, kind: str, rules: KeyRules) -> str:
    """Return the `custom_id` of a line of a batch for `endpoint`; raise what is wrong with it.

    `rules` are those of the key that made the batch.
    """
    line = _object(raw)
    custom_id = _custom_id(line)
    _check_fields(line, endpoint)
    try:
        _check_body(line["body"], kind, rules)
    except LikeDoError as error:
        error.param = f"body.{error.param}" if error.param else "body"
        raise
    return custom_id


def _object(raw: bytes) -> dict[str, Any]:
    try:
        line = bounded_json.loads(raw, bounded_json.OF_LINE)
    except bounded_json.TooComplex as error:
        raise InvalidRequest(f"This line is too complex: {error}.") from None
    except orjson.JSONDecodeError:
        raise LineError("invalid_json_line", "This line is not parseable as valid JSON.") from None
    if not isinstance(line, dict):
        raise LineError("invalid_json_line", "This line must be a JSON object.")
    return line


def _custom_id(line: dict[str, Any]) -> str:
    if "custom_id" not in line:
        raise MissingParameter("Missing required parameter: 'custom_id'.", param="custom_id")
    custom_id = line["custom_id"]
    is_valid = isinstance(custom_id, str) and 0 < len(custom_id) <= MAX_CUSTOM_ID_CHARACTERS
    if not is_valid or "\0" in custom_id:
        raise InvalidRequest(
            "Invalid value for 'custom_id': it must be a string of 1 to "
            f"{MAX_CUSTOM_ID_CHARACTERS} characters.",
            param="custom_id",
        )
    return str(custom_id)


def _check_fields(line: dict[str, Any], endpoint: str) -> None:
    for name in ("method", "url", "body"):
        if line.get(name) is None:
            raise MissingParameter(f"Missing required parameter: '{name}'.", param=name)
    if line["method"] != "POST":
        raise InvalidRequest("Invalid value for 'method': it must be 'POST'.", param="method")
    if line["url"] != endpoint:
        raise LineError(
            "url_mismatch",
            f"The url of this line is not the batch's endpoint, '{endpoint}'.",
            "url",
        )
    if not isinstance(line["body"], dict):
        raise InvalidRequest("Invalid value for 'body': it must be an object.", param="body")


def _check_body(body: dict[str, Any], kind: str, rules: KeyRules) -> None:
    for name in ("stream", "background"):
        if body.get(name) is True:
            raise UnsupportedParameter(
                f"'{name}' is not for a batch: its answers come in files.", param=name
            )
    if body.get("webhook_url") is not None:
        raise UnsupportedParameter(
            "'webhook_url' is not for the lines of a batch.", param="webhook_url"
        )
    job_kind = KINDS[kind]
    request = job_kind.read(body, False)
    rules.check_request(request)
    job_kind.find(request)


def code_of(error: LikeDoError) -> str:
    """Return the code that a batch reports for an error."""
    return error.openai_code if isinstance(error, LineError) else error.code
