"""`likedo models`: the list, and the check of a catalogue. No database is needed for either."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.main import main
from config.settings import settings
from tests.cli.test_main import run
from tests.config.catalog.test_source import GOOD

SHIPPED = Path(__file__).parents[2] / "config" / "catalog.toml"


def models(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["models", *map(str, arguments)])


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A catalogue of an operator's own."""
    monkeypatch.setattr(settings, "openai_api_key", "sk-test")
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    return path


def test_the_list_says_who_would_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "openai_api_key", "sk-test")

    found = {model["id"]: model for model in json.loads(models("list", "--json").stdout)}

    assert found["gpt-4"]["providers"] == ["openai"]
    assert found["gpt-4"]["successor"] == "gpt-4.1"
    assert "tools" in found["gpt-4"]["takes"]
    assert "gpt-4o-2024-08-06" in models("list").stdout
    assert "2027-01-14" in models("list").stdout


def test_a_catalogue_in_order_is_said_to_be_so(mine: Path) -> None:
    done = models("check", mine)

    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == f"{mine} can be used: 1 model, 0 warnings.\n"


def test_warnings_are_shown_and_are_no_failure(mine: Path) -> None:
    mine.write_text(GOOD.replace("2027-01-14", "2026-10-23"))

    done = models("check", mine)

    assert done.exit_code == 0
    assert f'Warning: {mine}, line 21: upstream."openai:one".retires: ' in done.stdout
    assert "2 warnings." in done.stdout


def test_every_mistake_is_told_with_its_line_as_the_start_does(mine: Path) -> None:
    mine.write_text(GOOD.replace("= 8192", "= 0").replace("max_running = 20", "rest = 1"))

    done = models("check", mine)

    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("likedo: the catalogue cannot be used:\n")
    assert f"{mine}, line 3: defaults.chat.default_output_tokens: it must be" in done.stderr
    assert f"{mine}, line 8: plans.free.rest: there is no such key" in done.stderr


def test_json_is_one_document_whatever_is_found(mine: Path) -> None:
    good = models("check", mine, "--json")
    mine.write_text(GOOD.replace("2027-01-14", '"soon"'))
    bad = models("check", mine, "--json")
    gone = models("check", mine.with_name("nowhere"), "--json")

    assert (good.exit_code, bad.exit_code, gone.exit_code) == (0, 1, 1)
    assert (good.stderr, bad.stderr, gone.stderr) == ("", "", "")
    assert json.loads(good.stdout) == {
        "file": str(mine),
        "usable": True,
        "errors": [],
        "warnings": [],
        "notes": [],
    }
    (error,) = json.loads(bad.stdout)["errors"]
    assert error == {
        "line": 21,
        "place": 'upstream."openai:one".retires',
        "message": "it must be a date such as 2027-01-14",
    }
    assert json.loads(gone.stdout)["usable"] is False
    assert json.loads(gone.stdout)["errors"][0]["line"] is None


def test_the_catalogue_that_ships_can_be_used() -> None:
    found = json.loads(models("check", "--json").stdout)

    assert found["file"] == str(SHIPPED)
    assert (found["usable"], found["errors"]) == (True, [])
    # What ends depends on the day; what leads nowhere would be our mistake on any day.
    told = " ".join(warning["message"] for warning in found["warnings"])
    assert "no model uses it" not in told
    assert "circle" not in told


def test_the_one_in_use_is_checked_where_it_cannot_be_used(mine: Path, tmp_path: Path) -> None:
    mine.write_text(GOOD.replace("[plans.pro]", "[plan.pro]").replace("= 200\n", "= 0\n"))

    bad = run(tmp_path, "models", "check", "--json", CATALOG=str(mine))
    other = run(tmp_path, "models", "check", str(SHIPPED), CATALOG=str(mine))

    assert (bad.returncode, bad.stderr) == (1, "")
    assert {error["line"] for error in json.loads(bad.stdout)["errors"]} == {7, 10}
    assert other.returncode == 0
