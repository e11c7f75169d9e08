import pytest

from tests.cli.conftest import Likedo


@pytest.fixture(autouse=True)
def account(likedo: Likedo) -> None:
    likedo("accounts", "create", "acme")


def test_credits_are_granted_and_taken(likedo: Likedo) -> None:
    likedo("credits", "grant", "--account", "acme", "100")
    after = likedo("credits", "grant", "--account", "acme", "-30", "--reason", "a typo", "--json")

    assert after == {"account": "acme", "plan": "free", "balance": 70, "held": 0, "available": 70}
    assert likedo("credits", "show", "--account", "acme", "--json") == after


def test_the_ledger_tells_every_movement_the_oldest_first(likedo: Likedo) -> None:
    likedo("credits", "grant", "--account", "acme", "100", "--reason", "invoice 7")
    likedo("credits", "grant", "--account", "acme", "-30")

    first, second = likedo("credits", "ledger", "--account", "acme", "--json")

    assert first == {
        "id": 1,
        "kind": "grant",
        "credits": 100,
        "balance_after": 100,
        "created": first["created"],
        "job_id": None,
        "reason": "invoice 7",
    }
    assert (second["credits"], second["balance_after"]) == (-30, 70)
    assert likedo("credits", "ledger", "--account", "acme", "--limit", "1", "--json") == [second]


def test_more_entries_than_a_database_counts_are_not_asked_for(likedo: Likedo) -> None:
    arguments = ("credits", "ledger", "--account", "acme", "--limit", str(10**20))

    assert "is not in the range" in likedo.refuses(*arguments, code=2)


def test_a_balance_cannot_be_taken_below_zero(likedo: Likedo) -> None:
    likedo("credits", "grant", "--account", "acme", "10")

    assert "cannot fall below" in likedo.refuses("credits", "grant", "--account", "acme", "-11")
    assert likedo("credits", "show", "--account", "acme", "--json")["balance"] == 10


def test_what_is_no_number_of_credits_is_refused(likedo: Likedo, subtests: pytest.Subtests) -> None:
    for number in ("ten", "1.5", "", "9" * 30, "--", "-"):
        with subtests.test(number):
            likedo.refuses("credits", "grant", "--account", "acme", number, code=2)

    assert likedo("credits", "ledger", "--account", "acme", "--json") == []


def test_a_misspelt_option_is_called_one(likedo: Likedo) -> None:
    said = likedo.refuses("credits", "grant", "--acount", "acme", "--account", "acme", "5", code=2)

    assert "No such option" in said and "--acount" in said
    assert "'five' is not a valid whole number" in likedo.refuses(
        "credits", "grant", "--account", "acme", "five", code=2
    )


def test_a_grant_of_nothing_is_refused(likedo: Likedo) -> None:
    assert "changes nothing" in likedo.refuses("credits", "grant", "--account", "acme", "0")


def test_a_reason_is_one_line(likedo: Likedo) -> None:
    said = likedo.refuses("credits", "grant", "--account", "acme", "5", "--reason", "a\nb")

    assert "The reason cannot hold control" in said
