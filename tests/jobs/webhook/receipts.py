"""A webhook that is asked for, and its message as it is kept and as it comes."""

import json
from typing import Any

from openai import OpenAI
from standardwebhooks import Webhook

from tests.callers import HELLO
from tests.servers.receiver import Message
from tests.stack import Account, Stack, fetch, wait_until


def ask(web: str, account: Account, url: str, **more: Any) -> str:
    """Ask for a chat whose end is told to `url`, and return its job's id."""
    body = HELLO | {"background": True, "webhook_url": url} | more
    status, _, answer = fetch(f"{web}/v1/chat/completions", body, key=account.key)
    assert status == 202, answer
    return str(json.loads(answer)["id"])


def job(web: str, account: Account, job_id: str) -> dict[str, Any]:
    _, _, body = fetch(f"{web}/v1/jobs/{job_id}", key=account.key)
    found: dict[str, Any] = json.loads(body)
    return found


def secret(account: Account) -> str:
    shown = account.stack.run("accounts", "show", account.name, "--json")
    return str(shown["webhook_secret"])


def verified(message: Message, secret: str) -> Any:
    """Return what a message says, once both libraries have found that we signed it."""
    OpenAI(api_key="-", webhook_secret=secret).webhooks.unwrap(message.body, message.headers)
    return Webhook(secret).verify(message.body, message.headers)


def outbox(stack: Stack, job_id: str) -> dict[str, Any]:
    """Return the message of a job as it is kept; nothing in it where there is none yet."""
    names = ("id", "tries", "next_at", "delivered_at", "gave_up_at", "last_error")
    sql = f"SELECT {', '.join(names)} FROM webhooks WHERE job_id = :job"
    found = stack.query(sql, job=job_id)
    return dict(zip(names, found[0] if found else [None] * len(names), strict=True))


def wait_for_failure(stack: Stack, job_id: str, why: str) -> None:
    """Wait until a try that failed for this reason is recorded."""
    wait_until(lambda: why in (outbox(stack, job_id)["last_error"] or ""), f"it fails: {why}")


def wait_until_delivered(stack: Stack, job_id: str) -> None:
    wait_until(lambda: outbox(stack, job_id)["delivered_at"], "it is delivered")


def make_due(stack: Stack) -> None:
    """Have what waits for its next try wait no more."""
    stack.change("UPDATE webhooks SET next_at = 0 WHERE next_at IS NOT NULL")


def verified_by_library(message: Message, secret: str) -> Any:
    return Webhook(secret).verify(message.body, message.headers)
