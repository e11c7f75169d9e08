"""Image jobs asked for, and what becomes of them and of their workers."""

import json
from typing import Any

from tests.stack import Account, Process, Stack, fetch, wait_until
from tests.upstream import Upstream

FLUX = {"model": "flux-pro", "prompt": "A cat with a cowboy hat, dancing in Rome."}
DALL_E = FLUX | {"model": "dall-e-3"}
HELD = {"match": "/predictions", "prediction": {"hold": True}}


def creates(upstream: Upstream) -> int:
    """Return how often somebody had an image made."""
    paths = [call["path"] for call in upstream.calls() if call["method"] == "POST"]
    return sum(path.endswith(("/predictions", "/images/generations")) for path in paths)


def cancels(upstream: Upstream) -> int:
    return sum(call["path"].endswith("/cancel") for call in upstream.calls())


def body_of(reply: tuple[int, dict[str, str], bytes]) -> Any:
    return json.loads(reply[2])


def rows(stack: Stack, status: str) -> int:
    """Return how many calls for images have that status."""
    sql = "SELECT count(*) FROM shots WHERE status = :status"
    return int(stack.query(sql, status=status)[0][0])


def bury(stack: Stack, worker: Process) -> None:
    """Kill a worker, and have that noticed at once."""
    worker.kill()
    stack.change("DELETE FROM leases")
    stack.change(
        "UPDATE jobs SET status = 'queued', worker = NULL, enqueued_at = 0 "
        "WHERE status = 'in_progress'"
    )


def begun(stack: Stack, web: str, account: Account, body: Any, expected: dict[str, int]) -> str:
    """Have an asynchronous job begun, and return its id when its calls stand as `expected`."""
    reply = fetch(f"{web}/v1/images/generations", body | {"background": True}, key=account.key)
    sql = "SELECT status, count(*) FROM shots GROUP BY status"
    wait_until(lambda: dict(stack.query(sql)) == expected, f"its calls are {expected}")
    return str(body_of(reply)["id"])


def ended(web: str, account: Account, job_id: str) -> Any:
    """Return a job when it has ended."""

    def job() -> Any:
        return body_of(fetch(f"{web}/v1/jobs/{job_id}", key=account.key))

    wait_until(lambda: job()["finished_at"] is not None, "the job has ended")
    return job()
