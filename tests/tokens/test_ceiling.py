"""The guess that needs no tokenizer, next to the real one."""

import base64
import json
import random
import string
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.chat_parameters import OWN_PARAMETERS
from tests.upstream import ROOT
from tokens import count as tokens_count
from tokens.ceiling import prompt_ceiling, text_ceiling
from tokens.texts import TOKENS_PER_IMAGE, TOKENS_PER_SMALL_IMAGE

#: Article 1 of the Universal Declaration of Human Rights, and other things that people say.
PROSE = {
    "German": "Alle Menschen sind frei und gleich an Würde und Rechten geboren.",
    "French": "Tous les êtres humains naissent libres et égaux en dignité et en droits.",
    "Polish": "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw.",
    "Vietnamese": "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm.",
    "Russian": "Все люди рождаются свободными и равными в своем достоинстве и правах.",
    "Greek": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια.",
    "Hebrew": "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם.",
    "Arabic": "يولد جميع الناس أحراراً متساوين في الكرامة والحقوق.",
    "Hindi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता प्राप्त है।",
    "Thai": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ",
    "Chinese": "人人生而自由，在尊严和权利上一律平等。",
    "Japanese": "すべての人間は、生まれながらにして自由であり、かつ平等である。",
    "Korean": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
    "Amharic": "የሰው ልጅ ሁሉ ሲወለድ ነጻና በክብርና በመብትም እኩልነት ያለው ነው።",
    "Emoji": "😀😂🥰👍🏽👨‍👩‍👧‍👦🇩🇪🔥💯❤️ see you ☀️",
    "Mathematics": "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α ∧ ¬β = ¬(¬α ∨ β), ∫₀^∞ e^{−x²}dx = √π/2",
}
ENGLISH = (
    "It was a bright cold day in April, and the clocks were striking thirteen. Winston Smith, "
    "his chin nuzzled into his breast in an effort to escape the vile wind, slipped quickly "
    "through the glass doors of Victory Mansions, though not quickly enough to prevent a swirl "
    "of gritty dust from entering along with him.\n"
)
CODE = (ROOT / "net" / "http.py").read_text(encoding="utf-8")
MADE = {
    "code": CODE,
    "minified code": '!function(e,t){for(var n=0;n<t.length;n++)t[n].c=!0,"v"in t&&(t.w=!0)}(a,b);',
    "compact JSON": '{"colour":"red","sizes":[1,2,3],"price":12.5,"c":null},' * 20,
    "a list of numbers": str([0.4712, -1.25, 3.0, 0.0081, 17.5] * 50).replace(" ", ""),
    "digits, one by one": "1 2 3 4 5 6 7 8 9 0 " * 20,
    "digits, two spaces apart": "1  2  3  4  5  6  " * 20,
    "digits in columns": "1\t2\t3\n4\t5\t6\n" * 20,
    "letters, one by one": "a b c d e f g x y z " * 20,
    "letters below each other": "a\nb\nc\nx\ny\nz\n" * 20,
    "a hex dump": bytes(range(256)).hex(" "),
    "spaces": " " * 1000,
    "new lines": "\n" * 1000,
    "white space": " \n\t \r\n  \n" * 100,
    "one letter": "a" * 1000,
    "capitals": ENGLISH.upper(),
}

#: Characters to draw from at random: what ids, keys, dumps and nonsense are made of.
ALPHABETS = {
    "small letters": string.ascii_lowercase,
    "capitals": string.ascii_uppercase,
    "letters": string.ascii_letters,
    "words": string.ascii_lowercase + " ",
    "digits": string.digits,
    "digits and spaces": string.digits + " ",
    "hex": string.hexdigits.lower(),
    "base32": string.ascii_uppercase + "234567",
    "base64": string.ascii_letters + string.digits + "+/",
    "punctuation": string.punctuation,
    "printable ASCII": string.printable,
    "ASCII": "".join(map(chr, range(128))),
    "white space": " \n\t\r",
    "Cyrillic": "".join(map(chr, range(0x410, 0x450))),
    "Arabic": "".join(map(chr, range(0x621, 0x64B))),
    "kana": "".join(map(chr, range(0x3041, 0x3097))),
    "Chinese": "".join(map(chr, range(0x4E00, 0xA000))),
    "Korean": "".join(map(chr, range(0xAC00, 0xD7A4))),
    "emoji": "".join(map(chr, range(0x1F300, 0x1F650))),
}


def ceiling(text: str) -> int:
    return text_ceiling(text.encode())


def user(content: Any, **fields: Any) -> dict[str, Any]:
    return {"role": "user", "content": content} | fields


def body(*messages: dict[str, Any], **parameters: Any) -> dict[str, Any]:
    return {"model": "m", "messages": list(messages) or [user("Hello")], **parameters}


# ---- Texts


@pytest.mark.parametrize("text", [*PROSE.values(), *MADE.values()], ids=[*PROSE, *MADE])
def test_no_text_that_people_send_has_more_tokens(text: str) -> None:
    assert ceiling(text) >= tokens_count.count_text(text)


@given(st.sampled_from(list(ALPHABETS)), st.integers(800, 3000), st.integers(0, 2**32))
def test_no_text_at_random_has_more_tokens(alphabet: str, length: int, seed: int) -> None:
    text = "".join(random.Random(seed).choices(ALPHABETS[alphabet], k=length))

    assert ceiling(text) >= tokens_count.count_text(text)


WAYS: dict[str, Callable[[bytes], str]] = {
    "base64": lambda data: base64.b64encode(data).decode(),
    "base85": lambda data: base64.b85encode(data).decode(),
    "hex": bytes.hex,
    "numbers": lambda data: str(list(data)),
    "compact numbers": lambda data: json.dumps(list(data), separators=(",", ":")),
}


@given(st.integers(300, 3000), st.integers(0, 2**32), st.sampled_from(list(WAYS)))
def test_no_bytes_written_as_text_have_more_tokens(size: int, seed: int, way: str) -> None:
    text = WAYS[way](random.Random(seed).randbytes(size))

    assert ceiling(text) >= tokens_count.count_text(text)


@given(st.text())
def test_no_text_has_more_than_twice_the_tokens(text: str) -> None:
    size = len(text.encode())

    assert size / 2 <= ceiling(text) <= size
    assert tokens_count.count_text(text) <= 2 * ceiling(text)


@pytest.mark.parametrize("text", [ENGLISH, CODE], ids=["English", "code"])
def test_the_ceiling_is_not_far_above_what_most_people_send(text: str) -> None:
    assert ceiling(text) <= 3 * tokens_count.count_text(text)


def test_a_long_text_is_the_sum_of_its_pieces() -> None:
    most = "\U0001f600" * 2_000

    assert ceiling(ENGLISH * 1000) == pytest.approx(1000 * ceiling(ENGLISH), rel=0.01)
    assert ceiling(most) == len(most.encode())


# ---- Prompts


def test_the_ceiling_is_above_the_count() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "find", "arguments": "{}"}}
    asked = body(
        {"role": "system", "content": ENGLISH},
        user([{"type": "text", "text": "1 2 3"}, {"type": "text", "text": "x"}], name="Bob"),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "4 5 6", "tool_call_id": "c"},
    )

    assert prompt_ceiling(asked) >= tokens_count.count_prompt(asked)


LONG = "1 2 3 4 5 " * 100
FUNCTION = {"name": "find", "description": LONG, "parameters": {"type": "object"}}
SCHEMA = {"name": "a", "schema": {"type": "object", "properties": {LONG: {"enum": [1, 2]}}}}


@pytest.mark.parametrize(
    "parameters",
    [
        {"tools": [{"type": "function", "function": FUNCTION}]},
        {"functions": [FUNCTION]},
        {"response_format": {"type": "json_schema", "json_schema": SCHEMA}},
    ],
    ids=lambda parameters: next(iter(parameters)),
)
def test_definitions_are_part_of_the_prompt(parameters: dict[str, Any]) -> None:
    plain, asked = body(), body(**parameters)

    assert tokens_count.count_prompt(asked) >= tokens_count.count_prompt(plain) + 1000
    assert prompt_ceiling(asked) >= tokens_count.count_prompt(asked)


@pytest.mark.parametrize(
    "parameters",
    [
        {"prediction": {"type": "content", "content": LONG}},
        {"brand_new": [[{"a": {LONG: None}}]]},
        {"brand_newer": LONG},
        {"tool_choice": {"type": "function", "function": {"name": LONG}}},
        {"messages": [user("Hello", brand_new=LONG)]},
        {"messages": [user([{"type": "text", "text": "Hello", "brand_new": LONG}])]},
        {"messages": [user([{"type": "file", "file": {"file_data": "", "filename": LONG}}])]},
    ],
    ids=str,
)
def test_what_is_not_known_here_may_reach_a_model(parameters: dict[str, Any]) -> None:
    assert prompt_ceiling(body(**parameters)) >= tokens_count.count_text(LONG)


def test_what_no_model_reads_is_not_counted() -> None:
    unread = {"metadata": {"a": LONG}, "user": LONG, "stop": LONG, "logit_bias": {LONG: 1}}
    own = dict.fromkeys(OWN_PARAMETERS, LONG)

    assert prompt_ceiling(body(temperature=0.5, **unread, **own)) == prompt_ceiling(body())


def test_null_counts_nothing() -> None:
    nothing = dict.fromkeys(["tools", "functions", "response_format", "brand_new"])

    assert prompt_ceiling(body(**nothing)) == prompt_ceiling(body())
    assert tokens_count.count_prompt(body(**nothing)) == tokens_count.count_prompt(body())


@pytest.mark.parametrize("count", [tokens_count.count_prompt, prompt_ceiling])
def test_an_image_is_a_flat_figure_whatever_its_bytes(count: Any) -> None:
    def prompt(size: int, detail: str) -> dict[str, Any]:
        url = "data:image/png;base64," + "A" * size
        return body(user([{"type": "image_url", "image_url": {"url": url, "detail": detail}}]))

    bare = count(body(user([])))

    assert count(prompt(10, "auto")) == count(prompt(1_000_000, "high")) == bare + TOKENS_PER_IMAGE
    assert count(prompt(10, "low")) == bare + TOKENS_PER_SMALL_IMAGE


FIELDS = ["role", "content", "type", "text", "name", "image_url", "file", "tool_calls"]
ANYTHING = st.recursive(
    st.none() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(FIELDS), inner),
)


@given(ANYTHING, ANYTHING)
def test_no_request_is_too_odd_to_be_estimated(content: Any, brand_new: Any) -> None:
    assert prompt_ceiling(body(user(content), brand_new=brand_new)) >= 6


def test_estimating_does_not_load_the_tokenizer() -> None:
    """A web process estimates; the tokenizer's memory is the worker's."""
    program = (
        "import sys; from tokens.ceiling import prompt_ceiling; import tokens.count;"
        "prompt_ceiling({'messages': [{'role': 'user', 'content': 'Hello'}]});"
        "print([name for name in sys.modules if 'bpe' in name or '_bindings' in name])"
    )

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)

    assert (done.stdout, done.stderr) == ("[]\n", "")
