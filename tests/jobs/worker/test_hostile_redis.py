"""Whoever reaches Redis can write what they like there: it chooses no code, and stops no worker."""

import json
import zlib
from typing import Any

import redis

from tests.callers import HELLO
from tests.conftest import ONE_DATABASE
from tests.stack import Stack, fetch, wait_until

#: Importing this module of Python's prints a poem.
SPEAKING = ["this.run", None, ["job_evil1"], {}]


def record(data: Any, **fields: str) -> dict[str, Any]:
    return {
        "data": zlib.compress(json.dumps(data).encode()),
        "status": "queued",
        "origin": "chat",
    } | fields


@ONE_DATABASE
def test_a_worker_runs_nothing_that_redis_names_but_its_own_jobs(fresh_stack: Stack) -> None:
    target = fresh_stack.folder / "pwned"
    system = ["os.system", None, [f"touch {target}"], {}]
    web, account = fresh_stack.web(), fresh_stack.account()
    _, _, answer = fetch(
        f"{web}/v1/chat/completions", HELLO | {"background": True}, key=account.key
    )
    job_id = json.loads(answer)["id"]
    callbacks = {f"{kind}_callback_name": "os.system" for kind in ("success", "failure", "stopped")}
    with redis.Redis(port=fresh_stack.valkey.port) as client:
        # A job of ours, whose record is another now, and records of nobody's jobs.
        client.hset(f"rq:job:{job_id}", mapping=record(system))
        evil = {
            "job_evil1": record(SPEAKING),
            "job_evil2": record(["jobs.chat.run", "a string", ["job_evil2"], {}], **callbacks),
            "job_evil3": record("no list", repeats_left="no number", timeout="x", meta="{"),
            "job_evil4": record(["jobs.chat.run", None, ["job_evil4"], {}], **callbacks),
        }
        for name, fields in evil.items():
            client.hset(f"rq:job:{name}", mapping=fields)
        client.rpush("rq:queue:chat", *evil, b"\xff not an id")
        client.set("rq:suspended", 1)

        worker = fresh_stack.worker()
        wait_until(lambda: fresh_stack.unfinished() == 0, "the job that is ours was run", worker)
        wait_until(lambda: "worker.entry_refused" in worker.said(), "all was looked at", worker)
        (lease,) = fresh_stack.live_workers()
        listening = client.publish(f"rq:pubsub:{lease}", json.dumps({"command": "shutdown"}))
        left = client.keys("rq:job:*")

    said = worker.said()
    refused = {name for name in [job_id, *evil] if f"event=worker.job_refused job={name}" in said}
    assert refused == {job_id, "job_evil1", "job_evil2", "job_evil3"}
    assert [job["status"] for job in account.jobs()] == ["completed"]
    assert account.standing() == (999, 0)
    assert (target.exists(), "Beautiful is better than ugly" in said) == (False, False)
    assert (left, listening) == ([], 0)
    assert worker.child.poll() is None
