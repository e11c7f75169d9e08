"""Batches in tests: their files written and read, and the waiting for them."""

import json
from collections import Counter
from typing import Any

from openai import OpenAI
from openai.types import Batch

from tests.callers import HELLO
from tests.stack import Account, wait_until

ENDPOINT = "/v1/chat/completions"
IMAGES = "/v1/images/generations"
OVER = ("completed", "failed", "expired", "cancelled")


def line(custom_id: str, body: Any = HELLO, **more: Any) -> dict[str, Any]:
    """Return a line of a batch's file, as a value."""
    return {"custom_id": custom_id, "method": "POST", "url": ENDPOINT, "body": body} | more


def chats(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Return lines that say different things, named `line-0`, `line-1` …"""
    return [
        line(
            f"line-{number}", HELLO | {"messages": [{"role": "user", "content": f"Say {number}."}]}
        )
        for number in range(first, first + count)
    ]


def file_of(lines: list[Any]) -> bytes:
    """Return a file with these lines; a string is a line as it stands."""
    texts = [each if isinstance(each, str) else json.dumps(each) for each in lines]
    return "".join(f"{text}\n" for text in texts).encode()


class Batches:
    """A caller's batches, by the official SDK."""

    def __init__(self, url: str, account: Account) -> None:
        self.account = account
        self.sdk = OpenAI(base_url=f"{url}/v1", api_key=account.key, max_retries=0)

    def create(self, lines: list[Any], endpoint: Any = ENDPOINT, **more: Any) -> Batch:
        """Upload a file of these lines, and ask for its batch."""
        file = self.sdk.files.create(file=("in.jsonl", file_of(lines)), purpose="batch")
        return self.sdk.batches.create(
            input_file_id=file.id, endpoint=endpoint, completion_window="24h", **more
        )

    def now(self, batch: Batch) -> Batch:
        return self.sdk.batches.retrieve(batch.id)

    def until(self, batch: Batch, *statuses: str, seconds: float = 60) -> Batch:
        """Return the batch when it has one of these statuses."""
        wait_until(
            lambda: self.now(batch).status in statuses,
            f"the batch is {' or '.join(statuses)}",
            seconds=seconds,
        )
        return self.now(batch)

    def run(self, lines: list[Any], endpoint: Any = ENDPOINT, **more: Any) -> Batch:
        """Create a batch and wait for its end."""
        return self.until(self.create(lines, endpoint, **more), *OVER)

    def lines(self, file_id: str | None) -> list[dict[str, Any]]:
        """Return the lines of a file that a batch has written; of none, none."""
        if file_id is None:
            return []
        text = self.sdk.files.content(file_id).text
        assert text.endswith("\n")
        return [json.loads(each) for each in text.splitlines()]

    def output(self, batch: Batch) -> list[dict[str, Any]]:
        return self.lines(batch.output_file_id)

    def errors(self, batch: Batch) -> list[dict[str, Any]]:
        return self.lines(batch.error_file_id)

    def close(self) -> None:
        self.sdk.close()


def counts(batch: Batch) -> tuple[int, int, int]:
    """Return (total, completed, failed)."""
    assert batch.request_counts is not None
    found = batch.request_counts
    return found.total, found.completed, found.failed


def the_books_are_right(account: Account, granted: int) -> None:
    """Audit an account by hand: each job charged once, what was charged gone, nothing held."""
    stack = account.stack
    mine = "account_id = (SELECT id FROM accounts WHERE name = :name)"
    entries = stack.query(
        f"SELECT job_id, kind, credits, balance_after FROM entries WHERE {mine} ORDER BY id",
        name=account.name,
    )
    balance = 0
    for _, _, credits, balance_after in entries:
        balance += credits
        assert balance == balance_after
    assert account.standing() == (balance, 0)
    charges = Counter(job for job, kind, _, _ in entries if kind == "charge")
    assert set(charges.values()) <= {1}
    jobs = stack.query(f"SELECT id, status, charged FROM jobs WHERE {mine}", name=account.name)
    paid = {job: -credits for job, kind, credits, _ in entries if kind == "charge"}
    assert {job: charged for job, _, charged in jobs if charged} == paid
    assert {status for _, status, _ in jobs} <= {"completed", "failed", "cancelled"}
    assert granted - sum(charged for _, _, charged in jobs) == balance
