"""The job of a streamed chat."""

import json
from typing import Any

import openai

from tests.conftest import Server
from tests.events import STREAMED
from tests.stack import Account, fetch, wait_until

TRAIL = ["job.queued", "job.started", "job.attempt", "job.settled"]
USAGE = STREAMED | {"stream_options": {"include_usage": True}}


def client(server: Server, account: Account, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=account.key, **options)


def job(server: Server, account: Account, job_id: str) -> dict[str, Any]:
    return dict(json.loads(fetch(f"{server.api}/jobs/{job_id}", key=account.key)[2]))


def ended(server: Server, account: Account, job_id: str) -> dict[str, Any]:
    """Wait for a job's end and return it."""
    wait_until(lambda: job(server, account, job_id)["finished_at"] is not None, "the job has ended")
    return job(server, account, job_id)
