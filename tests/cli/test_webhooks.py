import pytest
from sqlalchemy import text

import database
from billing import settlement
from jobs.lifecycle import store
from jobs.webhook import outbox, sender
from jobs.webhook.sender import DeliveryResult
from models.errors import ProviderFailed
from tests.cli.conftest import Likedo
from tests.job_rows import hold

FAILED = ProviderFailed("The provider failed.")


@pytest.fixture(autouse=True)
def account(likedo: Likedo) -> None:
    likedo("accounts", "create", "acme", "--credits", "1000")
    likedo("keys", "create", "--account", "acme")


def fail(url: str = "https://example.com/hook") -> str:
    """End a chat of the account's, and return its id."""
    job_id = hold(1, key_id=1, webhook_url=url)
    claimed = store.claim(job_id, "worker-1")
    assert claimed is not None
    settlement.fail(claimed.job, FAILED)
    return job_id


def take(status: int) -> str:
    """Try to deliver the message that is due, be answered with `status`, and return its id."""
    (message,) = outbox.claim([])
    sender.record(message, DeliveryResult(status, f"HTTP {status}."))
    return str(message.id)


def test_webhooks_are_listed_the_newest_first(likedo: Likedo) -> None:
    first = fail()
    take(200)
    second = fail("https://example.com/other")
    take(500)

    newest, oldest = likedo("webhooks", "list", "--json")

    assert (newest["job"], oldest["job"]) == (second, first)
    assert (oldest["account"], oldest["type"], oldest["url"]) == (
        "acme",
        "job.failed",
        "https://example.com/hook",
    )
    assert (oldest["status"], oldest["next_at"], oldest["last_error"]) == ("delivered", None, None)
    assert oldest["delivered_at"]
    assert (newest["status"], newest["tries"], newest["last_error"]) == ("waiting", 1, "HTTP 500.")
    assert first in likedo("webhooks", "list")


def test_webhooks_are_listed_by_account_job_and_failure(likedo: Likedo) -> None:
    likedo("accounts", "create", "other")
    good = fail()
    take(200)
    gone = fail()
    take(410)

    def jobs(*filters: str) -> list[str]:
        return [row["job"] for row in likedo("webhooks", "list", *filters, "--json")]

    assert jobs("--failed") == [gone]
    assert jobs("--job", good) == [good]
    assert jobs("--account", "acme") == [gone, good]
    assert jobs("--account", "other") == []
    assert jobs("--limit", "1") == [gone]
    assert likedo("webhooks", "list", "--failed", "--json")[0]["status"] == "given_up"


@pytest.mark.parametrize("status", [200, 410, 500])
def test_a_webhook_is_delivered_again_under_the_same_id(likedo: Likedo, status: int) -> None:
    fail()
    message = take(status)
    assert outbox.claim([]) == []

    assert message in likedo("webhooks", "redeliver", message)

    (listed,) = likedo("webhooks", "list", "--json")
    assert (listed["status"], listed["tries"]) == ("waiting", 0)
    assert take(200) == message


def test_what_is_not_there_is_said_to_be_unknown(likedo: Likedo, subtests: pytest.Subtests) -> None:
    for name in ("msg_nobodys", "job_nobodys", "\0", "\udcff"):
        with subtests.test(repr(name)):
            assert "There is no webhook" in likedo.refuses("webhooks", "redeliver", name)
            assert "There is no job" in likedo.refuses("webhooks", "list", "--job", name)


def test_an_account_has_a_secret_to_sign_with(likedo: Likedo) -> None:
    likedo("accounts", "create", "other")

    shown = likedo("accounts", "show", "acme", "--json")

    assert shown["webhook_secret"].startswith("whsec_")
    assert shown == likedo("accounts", "show", "acme", "--json")
    other = likedo("accounts", "show", "other", "--json")
    assert other["webhook_secret"] != shown["webhook_secret"]


def test_the_secret_is_shown_to_who_asks_for_it_and_nowhere_else(likedo: Likedo) -> None:
    said = [
        likedo("accounts", "show", "acme"),
        likedo("accounts", "list"),
        *map(str, likedo("accounts", "list", "--json")),
        str(likedo("accounts", "create", "other", "--json")),
    ]

    assert not any("whsec_" in one for one in said)


def test_an_account_from_before_there_were_webhooks_is_given_a_secret_once(
    likedo: Likedo,
) -> None:
    sql = text("UPDATE accounts SET webhook_secret = NULL")
    database.run(lambda connection: connection.execute(sql) and None)
    fail()

    (message,) = outbox.claim([])

    secret = outbox.secret_of(message)
    assert secret.startswith("whsec_")
    assert outbox.secret_of(message) == secret
    assert likedo("accounts", "show", "acme", "--json")["webhook_secret"] == secret
