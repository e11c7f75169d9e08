import datetime

import orjson
import pytest

from access import keys
from models.errors import InvalidKey
from tests.cli.conftest import Likedo, Listen


@pytest.fixture(autouse=True)
def account(likedo: Likedo) -> None:
    likedo("accounts", "create", "acme")


def test_a_key_is_shown_once_and_speaks_for_its_account(likedo: Likedo) -> None:
    made = likedo("keys", "create", "--account", "acme", "--name", "laptop", "--json")

    assert keys.identify(made["key"]).account_id == 1
    (listed,) = likedo("keys", "list", "--json")
    assert (listed["id"], listed["account"], listed["name"]) == (made["id"], "acme", "laptop")
    assert listed["hint"] == made["key"][-4:]
    assert made["key"] not in likedo("keys", "list")


def test_a_key_expires_on_the_day_it_is_told_to(likedo: Likedo) -> None:
    made = likedo("keys", "create", "--account", "acme", "--expires", "2999-12-31", "--json")

    day = datetime.datetime(2999, 12, 31, tzinfo=datetime.UTC)
    assert made["expires_at"] == day.timestamp()
    assert likedo("keys", "list", "--json")[0]["expires_at"] == day.timestamp()


def test_a_key_expires_at_the_moment_it_is_told_to(likedo: Likedo) -> None:
    made = likedo(
        "keys", "create", "--account", "acme", "--expires", "2999-12-31T18:00+01:00", "--json"
    )

    moment = datetime.datetime(2999, 12, 31, 17, tzinfo=datetime.UTC)
    assert made["expires_at"] == moment.timestamp()


def test_a_key_that_has_expired_is_refused(likedo: Likedo) -> None:
    made = likedo("keys", "create", "--account", "acme", "--expires", "2001-01-01", "--json")

    with pytest.raises(InvalidKey, match="expired"):
        keys.identify(made["key"])


def test_what_is_no_date_is_refused_with_an_example(
    likedo: Likedo, subtests: pytest.Subtests
) -> None:
    for date in ("tomorrow", "", "2027-02-30", "31.12.2027", "1\0", "9999-99-99"):
        with subtests.test(repr(date)):
            said = likedo.refuses("keys", "create", "--account", "acme", "--expires", date)

            assert "is no date: write one like 2027-01-31" in said

    assert likedo("keys", "list", "--json") == []


def test_a_revoked_key_is_refused_and_every_process_told(likedo: Likedo, hearing: Listen) -> None:
    made = likedo("keys", "create", "--account", "acme", "--json")
    ear = hearing(keys.CHANGED_CHANNEL)

    likedo("keys", "revoke", str(made["id"]))

    with pytest.raises(InvalidKey, match="revoked"):
        keys.identify(made["key"])
    assert orjson.loads(ear.hear()) == {"account": 1}
    assert likedo("keys", "list", "--json")[0]["revoked_at"] is not None


def test_a_key_that_is_not_there_cannot_be_revoked(likedo: Likedo) -> None:
    assert "There is no key 17." in likedo.refuses("keys", "revoke", "17")


def test_only_one_accounts_keys_are_listed_where_it_is_named(likedo: Likedo) -> None:
    likedo("accounts", "create", "other")
    likedo("keys", "create", "--account", "acme")
    likedo("keys", "create", "--account", "other")

    listed = likedo("keys", "list", "--account", "other", "--json")

    assert [key["account"] for key in listed] == ["other"]


def test_a_key_needs_an_account(likedo: Likedo) -> None:
    assert "--account" in likedo.refuses("keys", "create", code=2)


def test_a_key_is_limited_as_its_owner_asks(likedo: Likedo) -> None:
    asked = ["--models", "gpt-4, gpt-image-1", "--addresses", "203.0.113.7,2001:DB8::/32"]
    asked += ["--requests-per-hour", "60", "--limit", "1000", "--daily-limit", "100"]

    made = likedo("keys", "create", "--account", "acme", *asked, "--json")

    limits = {
        "models": ["gpt-4", "gpt-image-1"],
        "addresses": ["203.0.113.7/32", "2001:db8::/32"],
        "requests_per_hour": 60,
        "limit": 1000,
        "daily_limit": 100,
    }
    assert {name: made[name] for name in limits} == limits
    (listed,) = likedo("keys", "list", "--json")
    assert {name: listed[name] for name in limits} == limits
    assert (listed["spent"], listed["spent_today"]) == (0, 0)
    assert "gpt-4, gpt-image-1" in likedo("keys", "list")


def test_a_limit_that_is_none_is_refused(likedo: Likedo) -> None:
    def refused(*limit: str, code: int = 1) -> str:
        return likedo.refuses("keys", "create", "--account", "acme", *limit, code=code)

    assert "There is no model 'gpt-5000'." in refused("--models", "gpt-4,gpt-5000")
    assert "Name at least one of the models" in refused("--models", " , ")
    assert "'10.0.0.300' is no address" in refused("--addresses", "10.0.0.300")
    assert "'none' is no address" in refused("--addresses", "none")
    assert "--limit" in refused("--limit", "0", code=2)
    assert likedo("keys", "list", "--json") == []
