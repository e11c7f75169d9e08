import json

import orjson
import pytest
from click.testing import CliRunner

from access import accounts, keys, listings
from cli.main import main
from config.catalog.load import catalog
from config.catalog.model import Plan
from models.errors import InvalidKey
from tests.cli.conftest import Likedo, Listen


def test_an_account_is_made_with_a_plan_and_credits(likedo: Likedo) -> None:
    made = likedo("accounts", "create", "acme", "--plan", "pro", "--credits", "500", "--json")

    assert made == {
        "id": 1,
        "name": "acme",
        "plan": "pro",
        "suspended": False,
        "balance": 500,
        "held": 0,
        "available": 500,
        "created": made["created"],
        "keys": 0,
    }
    shown = likedo("accounts", "show", "acme", "--json")
    assert shown == made | {"webhook_secret": shown["webhook_secret"]}
    assert likedo("accounts", "list", "--json") == [made]


def test_an_account_is_free_and_empty_unless_said_otherwise(likedo: Likedo) -> None:
    made = likedo("accounts", "create", "acme", "--json")

    assert (made["plan"], made["balance"]) == ("free", 0)
    assert likedo("credits", "ledger", "--account", "acme", "--json") == []


def test_the_credits_to_begin_with_are_in_the_ledger(likedo: Likedo) -> None:
    likedo("accounts", "create", "acme", "--credits", "500")

    (entry,) = likedo("credits", "ledger", "--account", "acme", "--json")
    assert (entry["kind"], entry["credits"], entry["balance_after"]) == ("grant", 500, 500)


def test_people_get_a_table_without_frames_where_there_is_no_terminal(likedo: Likedo) -> None:
    likedo("accounts", "create", "[red]acme[/red]", "--plan", "lifetime")

    head, row = likedo("accounts", "list").splitlines()
    assert head.split() == [
        "id", "name", "plan", "suspended", "balance", "held", "available", "keys",
    ]  # fmt: skip
    assert row.split() == ["1", "[red]acme[/red]", "lifetime", "no", "0", "0", "0", "0"]


def test_a_long_name_is_neither_cut_nor_wrapped_where_there_is_no_terminal(likedo: Likedo) -> None:
    likedo("accounts", "create", "x" * 200)

    assert "x" * 200 in likedo("accounts", "list")


def test_an_account_counts_the_keys_that_are_in_force(likedo: Likedo) -> None:
    likedo("accounts", "create", "acme")
    likedo("keys", "create", "--account", "acme")
    revoked = likedo("keys", "create", "--account", "acme", "--json")
    likedo("keys", "revoke", str(revoked["id"]))

    assert likedo("accounts", "show", "acme", "--json")["keys"] == 1


def test_a_taken_name_is_refused_and_nothing_is_changed(likedo: Likedo) -> None:
    likedo("accounts", "create", "acme", "--credits", "5")

    assert "an account named 'acme' already" in likedo.refuses(
        "accounts", "create", "acme", "--credits", "7"
    )
    assert likedo("accounts", "show", "acme", "--json")["balance"] == 5


def test_a_name_that_cannot_be_shown_is_refused(likedo: Likedo) -> None:
    names = ["", "   ", "a\0b", "two\nlines", "\x1b[31m", "x" * 201, "\udcff"]

    said = {name: likedo.refuses("accounts", "create", name) for name in names}

    assert [name for name in names if "The name of an account cannot" not in said[name]] == []
    assert likedo("accounts", "list", "--json") == []


def test_a_plan_that_is_not_in_the_catalogue_is_refused_with_those_that_are(
    likedo: Likedo,
) -> None:
    said = likedo.refuses("accounts", "create", "acme", "--plan", "gold")

    assert "There is no plan 'gold'. The plans are: free, pro, lifetime." in said
    assert likedo("accounts", "list", "--json") == []


#: Commands about an account that is not there.
ABOUT_NOBODY = [
    ("accounts", "show", "nobody"),
    ("accounts", "suspend", "nobody"),
    ("accounts", "set-plan", "nobody", "pro"),
    ("accounts", "show", "no\0body"),
    ("accounts", "show", "\udcff"),
    ("keys", "create", "--account", "nobody"),
    ("keys", "list", "--account", "nobody"),
    ("credits", "grant", "--account", "nobody", "5"),
    ("credits", "show", "--account", "nobody"),
    ("credits", "ledger", "--account", "nobody"),
    ("jobs", "list", "--account", "nobody"),
]


def test_an_unknown_account_is_said_to_be_unknown(
    likedo: Likedo, subtests: pytest.Subtests
) -> None:
    for arguments in ABOUT_NOBODY:
        with subtests.test(repr(arguments)):
            assert "There is no account named" in likedo.refuses(*arguments)


def test_a_plan_is_changed_and_every_process_told(likedo: Likedo, hearing: Listen) -> None:
    likedo("accounts", "create", "acme")
    ear = hearing(keys.CHANGED_CHANNEL)

    likedo("accounts", "set-plan", "acme", "lifetime")

    assert likedo("accounts", "show", "acme", "--json")["plan"] == "lifetime"
    assert orjson.loads(ear.hear()) == {"account": 1}


def test_an_account_is_suspended_and_let_in_again(likedo: Likedo, hearing: Listen) -> None:
    likedo("accounts", "create", "acme")
    key = likedo("keys", "create", "--account", "acme", "--json")["key"]
    ear = hearing(keys.CHANGED_CHANNEL)

    likedo("accounts", "suspend", "acme")

    assert likedo("accounts", "show", "acme", "--json")["suspended"] is True
    assert orjson.loads(ear.hear()) == {"account": 1}
    with pytest.raises(InvalidKey, match="suspended"):
        keys.identify(key)

    likedo("accounts", "suspend", "acme", "--undo")
    keys.forget(ear.hear())  # As every web process is told.

    assert keys.identify(key).account_id == 1


def test_an_account_that_is_not_there_is_not_found(likedo: Likedo) -> None:
    assert listings.find_account("nobody") is None


def test_a_plan_of_the_catalogues_own_is_taken_like_any_other(
    likedo: Likedo, monkeypatch: pytest.MonkeyPatch
) -> None:
    team = Plan(name="team", requests_per_hour=500, max_running=5)
    monkeypatch.setitem(catalog.plans, "team", team)

    likedo("accounts", "create", "acme", "--plan", "team")
    likedo("accounts", "create", "other")
    likedo("accounts", "set-plan", "other", "team")

    assert {row["plan"] for row in likedo("accounts", "list", "--json")} == {"team"}


def test_the_list_warns_of_plans_that_the_catalogue_has_no_more(likedo: Likedo) -> None:
    accounts.create("acme", "gone")
    likedo("accounts", "create", "other")

    done = CliRunner().invoke(main, ["accounts", "list", "--json"])

    assert len(json.loads(done.stdout)) == 2
    assert done.stderr.splitlines() == [
        "Warning: the catalogue has no plan 'gone', so calls of 'acme' are refused: "
        "use likedo accounts set-plan NAME PLAN."
    ]
