"""What is told of a catalogue that can be used, and on which line of it."""

import datetime
from pathlib import Path

import pytest

from config.catalog.lint import Report, check
from config.settings import settings
from tests.config.catalog.test_source import GOOD

TODAY = datetime.date(2026, 11, 22)


@pytest.fixture(autouse=True)
def _with_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "openai_api_key", "sk-test")
    monkeypatch.setattr(settings, "deepseek_api_key", "")
    monkeypatch.setattr(settings, "sandbox", False)


def upstream(name: str, retires: str = "") -> str:
    return f'[upstream."{name}"]\n' + (f"retires = {retires}\n" if retires else "")


def model(name: str, *routes: str, successor: str = "") -> str:
    leads = f'successor = "{successor}"\n' if successor else ""
    return f'[models."{name}"]\nowned_by = "x"\nroutes = {list(routes)}\n{leads}'


def report(tmp_path: Path, *tables: str, text: str = GOOD) -> Report:
    path = tmp_path / "mine.toml"
    path.write_text("\n".join([text, *tables]))
    return check(path, TODAY)


def warnings(tmp_path: Path, *tables: str, text: str = GOOD) -> list[str]:
    found = report(tmp_path, *tables, text=text).warnings
    return [str(warning).removeprefix(str(tmp_path / "mine.toml, ")) for warning in found]


def test_a_catalogue_in_order_has_no_warnings(tmp_path: Path) -> None:
    found = report(tmp_path)

    assert (found.warnings, found.notes) == ([], [])
    assert list(found.catalog.models) == ["one"]


@pytest.mark.parametrize(
    ("day", "words"),
    [
        ("2026-11-21", "shut it on 2026-11-21"),
        ("2026-11-22", "shut it on 2026-11-22"),
        ("2026-11-23", "shuts it on 2026-11-23, in 1 day;"),
        ("2026-12-22", "shuts it on 2026-12-22, in 30 days;"),
    ],
)
def test_a_model_that_ends_soon_is_told_with_its_line_and_who_leans_on_it(
    tmp_path: Path, day: str, words: str
) -> None:
    first, *_ = warnings(tmp_path, text=GOOD.replace("2027-01-14", day))

    assert first.startswith('line 21: upstream."openai:one".retires: its vendor ')
    assert words in first
    assert first.endswith("; one has no other route")


def test_a_model_that_ends_later_is_not_told(tmp_path: Path) -> None:
    assert warnings(tmp_path, text=GOOD.replace("2027-01-14", "2026-12-23")) == []


def test_who_has_another_route_is_told_apart_from_who_has_none(tmp_path: Path) -> None:
    (warning,) = warnings(
        tmp_path,
        upstream("openai:old", "2026-12-01"),
        upstream("openai:older", "2026-11-30"),
        upstream("openai:new"),
        model("alone", "openai:old", "openai:older"),
        model("well", "openai:old", "openai:new"),
        model("better", "openai:new", "openai:old"),
    )[:1]

    assert "in 9 days; alone has no other route; well, better have another route" in warning


def test_many_are_counted(tmp_path: Path) -> None:
    many = [model(f"m{number}", "openai:old") for number in range(7)]

    (warning,) = warnings(tmp_path, upstream("openai:old", "2026-12-01"), *many)

    assert warning.endswith("; m0, m1, m2, m3, m4 and 2 more have no other route")


def test_a_model_of_which_nothing_lives_is_told(tmp_path: Path) -> None:
    found = warnings(tmp_path, upstream("openai:old", "2026-10-23"), model("dead", "openai:old"))

    assert found[1].startswith("line 35: models.dead.routes: every one of them is retired")


def test_a_model_that_nobody_uses_is_told_once(tmp_path: Path) -> None:
    assert warnings(tmp_path, upstream("openai:old", "2026-10-23")) == [
        'line 30: upstream."openai:old": no model uses it'
    ]


def test_a_plan_smaller_than_the_free_one_is_told(tmp_path: Path) -> None:
    text = GOOD.replace("[plans.lifetime]\nrequests_per_hour = 2000", "[plans.lifetime]\n%s")

    assert warnings(tmp_path, text=text % "requests_per_hour = 20") == [
        "line 15: plans.lifetime.requests_per_hour: it is less than plans.free has, which is 200"
    ]


def test_successors_in_a_circle_are_told(tmp_path: Path) -> None:
    found = warnings(
        tmp_path,
        model("a", "openai:one", successor="b"),
        model("b", "openai:one", successor="c"),
        model("c", "openai:one", successor="b"),
        model("self", "openai:one", successor="self"),
        model("fine", "openai:one", successor="one"),
    )

    assert [warning.partition("circle: ")[2] for warning in found] == [
        "a → b → c → b",
        "b → c → b",
        "c → b → c",
        "self → self",
    ]
    assert found[0].startswith("line 33: models.a.successor: ")


def test_a_successor_that_is_retired_itself_is_told(tmp_path: Path) -> None:
    found = warnings(
        tmp_path,
        upstream("openai:old", "2026-10-23"),
        model("dead", "openai:old"),
        model("asks", "openai:one", successor="dead"),
    )

    assert found[-1].endswith("models.asks.successor: it leads to dead, which is retired itself")


def test_models_without_a_key_here_are_a_note(tmp_path: Path) -> None:
    found = report(
        tmp_path,
        upstream("deepseek:d"),
        upstream("openrouter:o"),
        upstream("sandbox:s"),
        model("d", "deepseek:d"),
        model("d2", "deepseek:d"),
        model("both", "deepseek:d", "openrouter:o"),
        model("has", "deepseek:d", "openai:one"),
        model("s", "sandbox:s"),
    )

    assert found.warnings == []
    assert [(note.message, note.models) for note in found.notes] == [
        ("without DEEPSEEK_API_KEY no provider answers for d, d2", ["d", "d2"]),
        ("without DEEPSEEK_API_KEY or OPENROUTER_API_KEY no provider answers for both", ["both"]),
    ]


def test_the_sandbox_answers_for_models_without_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "sandbox", True)

    (note,) = report(tmp_path, upstream("deepseek:d"), model("d", "deepseek:d")).notes

    assert note.message == "without DEEPSEEK_API_KEY the sandbox answers for d"
