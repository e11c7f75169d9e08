"""Exact token counts, with the encoding of OpenAI's models."""

import functools
import importlib.util
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from ops import turns
from tokens.texts import Body, attached_tokens, flat_tokens, prompt_texts

ENCODING = "o200k_base"

#: A piece of a long text. A megabyte takes up to 60 ms.
PIECE_CHARACTERS = 64 * 1024
#: A piece ends at the last word that ends among so many characters.
WORD_CHARACTERS = 256
_BETWEEN_WORDS = re.compile(r"[A-Za-z](?= [A-Za-z])")


def count_text(text: str) -> int:
    """Return how many tokens `text` has; it may be of any length.

    A long text is counted in pieces, between which other greenlets run. They end between words, so
    their tokens add up; if there are no words, each piece may count one token more or less.
    """
    return sum(map(_count, _pieces(text)))


def _count(piece: str) -> int:
    if len(piece) > WORD_CHARACTERS:
        turns.pause()
    return int(_tokenizer().count(_encodable(piece)))


def count_prompt(body: Body) -> int:
    """Return how many tokens the prompt of a request's `body` has.

    Messages, functions and a schema are counted; images count at the flat rates of `tokens.texts`,
    and files and sound are guessed.
    """
    texts = sum(map(count_text, turns.in_turns(prompt_texts(body))))
    return texts + flat_tokens(body) + attached_tokens(body)


def count_answer(body: Mapping[str, Any]) -> int:
    """Return how many tokens the choices of a `chat.completion` object have."""
    texts = (text for choice in body["choices"] for text in _texts_of(choice))
    return sum(map(count_text, turns.in_turns(texts)))


def cut(text: str, tokens: int) -> str:
    """Return the text of the first `tokens` tokens of `text`, without a character cut in two."""
    encoded = _tokenizer().encode(_encodable(text))[:tokens]
    while encoded:
        with suppress(ValueError):
            return str(_tokenizer().decode(encoded))
        encoded.pop()
    return ""


def _texts_of(choice: Mapping[str, Any]) -> list[str]:
    message = choice.get("message") or {}
    calls = [call.get("function") or {} for call in message.get("tool_calls") or ()]
    if message.get("function_call"):
        calls.append(message["function_call"])
    texts = [message.get(field) for field in ("refusal", "reasoning_content")]
    texts += [call.get(field) for call in calls for field in ("name", "arguments")]
    return [text for text in (*_content(message), *texts) if isinstance(text, str)]


def _content(message: Mapping[str, Any]) -> list[Any]:
    """Return the texts of a message's content, which some vendors send in parts."""
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"text": content}]
    return [part.get("text") for part in parts if isinstance(part, dict)]


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > PIECE_CHARACTERS:
        end = start + PIECE_CHARACTERS
        # The encoding never joins a letter to a space after it.
        words = list(_BETWEEN_WORDS.finditer(text, end - WORD_CHARACTERS, end))
        end = words[-1].end() if words else end
        yield text[start:end]
        start = end
    yield text[start:]


def _encodable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


@functools.cache
def _tokenizer() -> Any:
    """Return the Rust object of `bpe_openai`, as typed in its `_bindings.pyi`.

    The Python package around it rejects texts of a million characters and answers of 200,000
    tokens, and importing it builds tables that nothing here uses: 65 MB, and most of a second in
    which a worker's other calls stand still. So only the extension is loaded.
    """
    package = importlib.util.find_spec("bpe_openai")
    paths = package.submodule_search_locations if package else None
    spec = importlib.machinery.PathFinder.find_spec("_bindings", paths)
    if spec is None or spec.loader is None:
        raise ImportError("bpe_openai has no _bindings: reinstall the dependencies.")
    bindings = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bindings)
    return bindings.tokenizer_for_encoding(ENCODING)
