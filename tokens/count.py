"""Exact token counts, with the encoding of OpenAI's models."""

import functools
import importlib.util
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from tokens.texts import Body, attached_tokens, flat_tokens, prompt_texts

ENCODING = "o200k_base"


def count_text(text: str) -> int:
    """Return how many tokens `text` has; it may be of any length."""
    return int(_tokenizer().count(_encodable(text)))


def count_prompt(body: Body) -> int:
    """Return how many tokens the prompt of a request's `body` has.

    Messages, functions and a schema are counted; images count at the flat rates of `tokens.texts`,
    and files and sound are guessed.
    """
    texts = sum(map(count_text, prompt_texts(body)))
    return texts + flat_tokens(body) + attached_tokens(body)


def count_answer(body: Mapping[str, Any]) -> int:
    """Return how many tokens the choices of a `chat.completion` object have."""
    return sum(map(count_text, (text for choice in body["choices"] for text in _texts_of(choice))))


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
