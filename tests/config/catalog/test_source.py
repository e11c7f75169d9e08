"""What is refused in a catalogue, and the line that the message names."""

from pathlib import Path

import pytest

from config.catalog.load import load
from config.catalog.source import InvalidCatalog

GOOD = """\
[defaults.chat]
price = { prompt = 1, completion = 3 }
default_output_tokens = 8192
created = 2026-11-22

[plans.free]
requests_per_hour = 200
max_running = 20

[plans.pro]
requests_per_hour = 2000
max_running = 100

[plans.lifetime]
requests_per_hour = 2000
max_running = 100

[upstream."openai:one"]
takes = ["sampling", "stop"]
usd_per_million_input = 0.5
retires = 2027-01-14

[models."one"]
owned_by = "openai"
routes = [
    "openai:one",
    { upstream = "openai:one", extra = { seed = 1 } },
]
"""

WRONG = {
    "a syntax error": ("max_running = 20", "max_running = ", 8, "Invalid value"),
    "a table twice": ("[plans.pro]", "[plans.free]", 10, "twice"),
    "an end too early": ("]\n", "\n", 1, ""),
    "no default price": ("price = { prompt = 1, completion = 3 }", "", 1, "it is missing"),
    "no default table": ("[defaults.chat]", "[defaults.chats]", 1, "it is missing"),
    "a plan without a name": ("[plans.pro]", '[plans.""]', 10, "must be 1 to 40 letters"),
    "a plan that no table can hold": (
        "[plans.pro]",
        f"[plans.{'x' * 41}]",
        10,
        "must be 1 to 40 letters",
    ),
    "a plan named twice": ("max_running = 20", 'max_running = 20\nname = "pro"', 9, "no such key"),
    "an unknown key": ("max_running = 20", "max_runing = 20", 8, "there is no such key"),
    "an unknown table": ("[plans.pro]", "[plan.pro]", 10, "plan: there is no such key"),
    "a number as text": ("= 200\n", '= "200"\n', 7, "it must be a whole number"),
    "a date as text": ("2027-01-14", '"soon"', 21, "it must be a date"),
    "a negative price": ("prompt = 1", "prompt = -1", 2, "it must not be negative"),
    "a negative cost": ("= 0.5", "= -0.5", 20, "it must not be negative"),
    "an endless price": ("prompt = 1", "prompt = inf", 2, "it must be a finite number"),
    "a price as text": ("prompt = 1", 'prompt = "1"', 2, "it must be a number"),
    "a price of true": ("prompt = 1", "prompt = true", 2, "it must be a number"),
    "no output tokens": ("= 8192", "= 0", 3, "it must be at least 1"),
    "no requests": ("= 200\n", "= 0\n", 7, "it must be at least 1"),
    "an unknown provider": ('."openai:one"', '."opnai:one"', 18, "one of the providers deepseek"),
    "an upstream without provider": ('."openai:one"', ".one", 18, "'provider:model'"),
    "an unknown word": ('"stop"]', '"stopp"]', 19, "'stopp' is not one of audio"),
    "an upstream named twice": ('takes = ["s', 'id = "two"\ntakes = ["s', 19, "no such key"),
    "an unknown upstream": (
        '    "openai:one"',
        '    "openai:two"',
        26,
        'no [upstream."openai:two"]',
    ),
    "another unknown upstream": (
        'm = "openai:one"',
        'm = "openai:two"',
        27,
        'models.one.routes[1]: there is no [upstream."openai:two"]',
    ),
    "an unknown key of a route": ("extra =", "extras =", 25, "there is no such key"),
    "something JSON cannot say": (
        "seed = 1",
        "seed = 2026-01-01",
        25,
        "a value that JSON can hold",
    ),
    "takes as a text": ('["sampling", "stop"]', '"stop"', 19, "it must be a list"),
    "routes as a table": ("routes = [", "routes = { a = 1 }\nx = [", 25, "it must be a list"),
    "a route that is none": ('    "openai:one",', "    7,", 25, "it must be a table"),
    "an unknown kind": ('[models."one"]', '[models."one"]\nkind = "odd"', 24, "it must be 'chat'"),
    "an unknown successor": (
        'owned_by = "openai"',
        'owned_by = "openai"\nsuccessor = "two"',
        25,
        'there is no [models."two"]',
    ),
    "a model without an owner": ('owned_by = "openai"', "", 23, "owned_by: it is missing"),
}


def message(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(InvalidCatalog) as refused:
        load(path)
    return str(refused.value)


def test_the_pattern_of_these_tests_is_a_catalogue(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)

    assert list(load(path).models) == ["one"]


@pytest.mark.parametrize(("old", "new", "line", "reason"), WRONG.values(), ids=WRONG.keys())
def test_a_mistake_is_refused_with_its_file_line_and_reason(
    tmp_path: Path, old: str, new: str, line: int, reason: str
) -> None:
    assert old in GOOD

    said = message(tmp_path, GOOD.replace(old, new, 1))

    assert any(f"mine.toml, line {line}: " in told and reason in told for told in said.split("\n"))


def test_a_model_without_routes_is_refused(tmp_path: Path) -> None:
    start, end = GOOD.index("routes = ["), GOOD.rindex("]")

    without = message(tmp_path, GOOD[:start])
    empty = message(tmp_path, GOOD[:start] + "routes = [" + GOOD[end:])

    assert "mine.toml, line 23: models.one.routes: it is missing" in without
    assert "mine.toml, line 25: models.one.routes: it must not be empty" in empty


def test_an_empty_file_is_refused_for_each_table_it_lacks(tmp_path: Path) -> None:
    said = message(tmp_path, "")

    for table in ("defaults", "plans", "upstream", "models"):
        assert f"mine.toml, line 1: {table}: it is missing" in said


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    said = message(tmp_path, GOOD.replace("= 8192", "= 0").replace("max_running = 20", "rest = 1"))

    assert "line 3: defaults.chat.default_output_tokens" in said
    assert "line 8: plans.free.rest" in said


def test_one_mistake_is_not_told_as_another_where_the_table_is_used(tmp_path: Path) -> None:
    text = GOOD.replace("= 8192", "= 0").replace('"stop"]', '"stopp"]')

    said = message(tmp_path, text)

    assert [line.split(": ")[0].split(", ")[1] for line in said.splitlines()[1:]] == [
        "line 3",
        "line 19",
    ]


def test_plans_have_any_names_and_any_number_of_them(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    start, end = GOOD.index("[plans.free]"), GOOD.index("[upstream.")

    path.write_text(GOOD.replace("[plans.free]", "[plans.team]").replace(".pro]", '."4.5-big"]'))
    assert list(load(path).plans) == ["team", "4.5-big", "lifetime"]

    without = message(tmp_path, GOOD[:start] + GOOD[end:])
    empty = message(tmp_path, GOOD[:start] + "[plans]\n" + GOOD[end:])
    assert "line 1: plans: it is missing" in without
    assert "line 6: plans: it must not be empty" in empty


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidCatalog, match=r"nowhere\.toml: it cannot be read: No such file"):
        load(tmp_path / "nowhere.toml")


def test_a_file_that_is_not_text_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")

    with pytest.raises(InvalidCatalog, match=r"binary\.toml: it cannot be read: it is not UTF-8"):
        load(tmp_path / "binary.toml")
