"""Plans are data: what `docs/adding-a-plan.md` says, and what a plan that is gone leaves behind."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.callers import HELLO, Callers
from tests.conftest import provider_settings
from tests.stack import ROOT, Account, Stack, fetch, wait_until
from tests.upstream import Upstream

PAGE = ROOT / "docs" / "adding-a-plan.md"
SHIPPED = ROOT / "config" / "catalog.toml"


@pytest.fixture
def stack(upstream: Upstream, tmp_path: Path) -> Iterator[Stack]:
    """A stack on the shipped catalogue with the page's plan in it: five calls, one at a time."""
    (table,) = re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    table = table.replace("= 1000", "= 5").replace("= 50", "= 1")
    catalog = tmp_path / "mine.toml"
    catalog.write_text(f"{SHIPPED.read_text()}\n{table}")
    made = Stack(catalog=catalog, **provider_settings(upstream))
    yield made
    made.close()


def team(stack: Stack) -> Account:
    """Return an account on the new plan, made and moved there as an operator would."""
    for name, plan in (("alice", "team"), ("bob", "free")):
        stack.run("accounts", "create", name, "--plan", plan, "--credits", "100")
    stack.run("accounts", "set-plan", "bob", "team")
    key = stack.run("keys", "create", "--account", "bob", "--json")
    return Account(stack, "bob", key["key"], key["id"])


def test_a_new_plan_is_a_table_of_the_catalogue(stack: Stack, upstream: Upstream) -> None:
    url = stack.web()
    stack.worker()
    account = team(stack)
    upstream.script({"hold": True})
    callers = Callers()

    callers.call(url, account.key, times=5)
    sql = "SELECT count(*) FROM jobs WHERE status = 'queued' AND enqueued_at IS NULL"
    wait_until(lambda: stack.query(sql)[0][0] == 4, "all but one wait for their turn")
    upstream.wait(received=1)
    upstream.release()
    statuses = {status for status, _, _ in callers.replies()}
    status, headers, body = fetch(f"{url}/v1/chat/completions", HELLO, key=account.key)

    assert statuses == {200}
    assert status == 429
    assert headers["x-ratelimit-limit-requests"] == "5"
    assert "5 requests per hour on the team plan" in json.loads(body)["error"]["message"]
    assert {row["plan"] for row in stack.run("accounts", "list", "--json")} == {"team"}


def test_an_account_whose_plan_is_gone_is_told_so_and_keeps_what_it_has(
    stack: Stack, upstream: Upstream
) -> None:
    url = stack.web()
    stack.worker()
    account = team(stack)
    body = HELLO | {"background": True}
    _, _, content = fetch(f"{url}/v1/chat/completions", body, key=account.key)
    job = f"v1/jobs/{json.loads(content)['id']}"
    url = stack.web(catalog=SHIPPED)

    status, headers, refusal = fetch(f"{url}/v1/chat/completions", HELLO, key=account.key)
    fetch(f"{url}/v1/chat/completions", HELLO, key=account.key)
    standing, _, credits = fetch(f"{url}/v1/credits", key=account.key)
    wait_until(
        lambda: json.loads(fetch(f"{url}/{job}", key=account.key)[2])["status"] == "completed",
        "the job is answered, and can be fetched",
    )

    error = json.loads(refusal)["error"]
    assert (status, error["code"]) == (503, "unavailable")
    assert "no plan 'team'" in error["message"]
    assert (standing, json.loads(credits)["plan"]) == (200, "team")
    assert stack.webs[-1].said().count("event=account.plan_unknown") == 1
    assert "likedo accounts set-plan" in stack.webs[-1].said()

    stack.run("accounts", "set-plan", account.name, "pro")

    wait_until(
        lambda: fetch(f"{url}/v1/chat/completions", HELLO, key=account.key)[0] == 200,
        "the process has heard of the new plan",
    )
