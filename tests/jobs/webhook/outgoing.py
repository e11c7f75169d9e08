"""Messages in the outbox of this process's database."""

from typing import Any

from sqlalchemy import text

import database
from billing import settlement
from billing.outcomes import ChatOutcome, ClaimedJob, UpstreamAttribution
from jobs.lifecycle import store
from jobs.webhook import outbox
from models.chat import Usage
from models.errors import JobCancelled, ProviderFailed
from tests.job_rows import hold, make_account

URL = "http://127.0.0.1:9/hook"


def queue(account_id: int, url: str | None = URL) -> str:
    """Hold for a chat with a webhook at `url`, and return its id."""
    return hold(account_id, webhook_url=url)


def claim(job_id: str) -> ClaimedJob:
    claimed = store.claim(job_id, "a-worker")
    assert claimed is not None
    return claimed.job


ANSWER = ChatOutcome({"choices": []}, Usage(10, 5), UpstreamAttribution("openai", "gpt-4.1"))
FAILED = ProviderFailed("The provider failed.")
CANCELLED = JobCancelled("The job was cancelled.")


def complete(account_id: int, url: str | None = URL) -> str:
    job_id = queue(account_id, url)
    assert settlement.settle(claim(job_id), ANSWER)
    return job_id


def kept(job_id: str) -> list[Any]:
    return outbox.listing(10, job_id=job_id)


def taken(account_id: int | None = None, url: str = URL) -> Any:
    """Return a message that a worker has just taken."""
    # A message of an earlier case may be due again by now.
    change("UPDATE webhooks SET next_at = NULL")
    complete(account_id or make_account(), url)
    (message,) = outbox.claim([])
    return message


def change(sql: str) -> None:
    database.run(lambda connection: connection.execute(text(sql)) and None)
