from pathlib import Path
from typing import Any

import orjson
import pytest
import redis
from sqlalchemy import Connection, insert, text, update
from sqlmodel import col

import database
import storage
from billing import settlement
from billing.outcomes import ChatOutcome, UpstreamAttribution
from config.settings import settings
from jobs.lifecycle import bodies, finish, store
from jobs.lifecycle import queue as lifecycle_queue
from jobs.maintenance import leases
from jobs.streaming import messages
from jobs.streaming.messages import Ended
from models.batch import Batch, BatchLine
from models.chat import Usage
from models.errors import ProviderFailed, Unavailable
from models.job import BodyAt, Job, Status
from storage.local import Local
from tests.cli.conftest import Likedo, Listen
from tests.job_rows import hold


@pytest.fixture(autouse=True)
def account(likedo: Likedo) -> None:
    likedo("accounts", "create", "acme", "--credits", "1000")
    likedo("keys", "create", "--account", "acme")


def test_jobs_are_listed_the_newest_first(likedo: Likedo) -> None:
    first, second = queue(created=1), queue(created=2)

    listed = likedo("jobs", "list", "--json")

    assert [row["id"] for row in listed] == [second, first]
    assert {(row["account"], row["status"]) for row in listed} == {("acme", "queued")}
    assert first in likedo("jobs", "list")


def test_jobs_are_listed_by_account_status_and_kind(likedo: Likedo) -> None:
    likedo("accounts", "create", "other")
    waiting, running = queue(created=1), queue(created=2)
    store.claim(running, "worker-1")

    def ids(*filters: str) -> list[str]:
        return [row["id"] for row in likedo("jobs", "list", *filters, "--json")]

    assert ids("--status", "in_progress") == [running]
    assert ids("--account", "acme") == [running, waiting]
    assert ids("--account", "other") == []
    assert ids("--kind", "image") == []
    assert ids("--limit", "1") == [running]


def test_a_finished_job_is_shown_with_its_result(likedo: Likedo) -> None:
    job_id = queue()
    complete(job_id)

    shown = likedo("jobs", "show", job_id, "--json")

    assert (shown["object"], shown["status"], shown["credits_consumed"]) == ("job", "completed", 1)
    assert shown["result"]["choices"] == []
    assert "completed" in likedo("jobs", "show", job_id)


def test_a_job_that_is_not_there_is_said_to_be_unknown(
    likedo: Likedo, subtests: pytest.Subtests
) -> None:
    for command in ("show", "cancel"):
        for job_id in ("job_nobodys", "\0", "\udcff"):
            with subtests.test(f"{command} {job_id!r}"):
                assert "There is no job" in likedo.refuses("jobs", command, job_id)


def test_a_queued_job_is_cancelled_free_of_charge_and_its_waiter_told(
    likedo: Likedo, hearing: Listen
) -> None:
    job_id = queue()
    ear = hearing(messages.channel(job_id))

    assert "cancelled, free of charge" in likedo("jobs", "cancel", job_id)

    shown = likedo("jobs", "show", job_id, "--json")
    assert (shown["status"], shown["credits_consumed"]) == ("cancelled", 0)
    assert shown["error"]["code"] == "job_cancelled"
    assert likedo("credits", "show", "--account", "acme", "--json")["available"] == 1000
    ended = Ended.decode(ear.hear())
    assert ended.status == Status.CANCELLED


def test_a_queued_job_is_cancelled_where_redis_does_not_answer(
    likedo: Likedo, monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis.Redis(port=1) as nobody:
        monkeypatch.setattr(lifecycle_queue, "connection", lambda: nobody)
        job_id = queue()

        assert "cancelled, free of charge" in likedo("jobs", "cancel", job_id)

    assert likedo("jobs", "show", job_id, "--json")["status"] == "cancelled"


def test_what_is_logged_does_not_mix_with_what_was_asked_for(likedo: Likedo) -> None:
    job_id = queue()

    assert likedo("jobs", "cancel", job_id) == f"Job {job_id} is cancelled, free of charge.\n"


def test_cancelling_a_job_twice_is_no_error(likedo: Likedo) -> None:
    job_id = queue()
    likedo("jobs", "cancel", job_id)

    assert "was cancelled before" in likedo("jobs", "cancel", job_id)


def test_the_worker_of_a_running_job_is_asked_to_end_it(likedo: Likedo) -> None:
    job_id = queue()
    store.claim(job_id, "worker-1")

    assert "within seconds" in likedo("jobs", "cancel", job_id)

    row = store.find(job_id)
    assert row is not None
    assert (row.status, row.cancel_requested) == (Status.IN_PROGRESS, True)


def test_a_finished_job_cannot_be_cancelled(likedo: Likedo) -> None:
    job_id = queue()
    complete(job_id)

    assert "has ended already: it is completed" in likedo.refuses("jobs", "cancel", job_id)


def test_the_workers_that_are_alive_are_listed(likedo: Likedo) -> None:
    leases.open("worker-1", 1000)
    leases.open("worker-2", 1000)
    database.run(
        lambda connection: (
            connection.execute(
                text("UPDATE leases SET last_seen = last_seen - 60 WHERE name = 'worker-2'")
            )
            and None
        )
    )

    (worker,) = likedo("workers", "--json")

    assert worker.keys() == {"name", "host", "pid", "running", "capacity", "last_seen"}
    assert (worker["name"], worker["capacity"], worker["running"]) == ("worker-1", 1000, 0)
    assert "worker-1" in likedo("workers")


def test_the_models_are_listed(likedo: Likedo) -> None:
    listed = likedo("models", "list", "--json")

    gpt = next(model for model in listed if model["id"] == "gpt-4")
    assert (gpt["object"], gpt["kind"]) == ("model", "chat")
    assert "gpt-4-turbo" in likedo("models", "list")


def queue(created: float = 1.0, body_at: BodyAt = BodyAt.REDIS, body: bytes | None = None) -> str:
    """Hold and queue a chat of the account's, and return its id."""
    at = {"created": created, "enqueued_at": created}
    return hold(1, body=body, key_id=1, body_at=body_at, **at)


def complete(job_id: str) -> None:
    """Claim and settle a job, at a cost of 1."""
    claim = store.claim(job_id, "worker-1")
    assert claim is not None
    usage = Usage(prompt_tokens=10, completion_tokens=1)
    answer = ChatOutcome({"choices": []}, usage, UpstreamAttribution("openai", "gpt-4.1"))
    assert settlement.settle(claim.job, answer) is not None


# ---- Trying again


def fail(job_id: str) -> None:
    claim = store.claim(job_id, "worker-1")
    assert claim is not None
    assert settlement.fail(claim.job, ProviderFailed("It broke.")) is not None


def test_a_failed_request_that_is_kept_is_tried_again_as_a_new_job(
    likedo: Likedo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "openai_api_key", "sk-openai")
    body = orjson.dumps({"model": "gpt-4", "messages": [{"role": "user", "content": "Hello"}]})
    job_id = queue(body_at=BodyAt.SQL, body=body)
    fail(job_id)

    told = likedo("jobs", "retry", job_id, "--json")

    assert told["retries"] == job_id
    assert told["id"] in lifecycle_queue.queue("chat").get_job_ids()
    new = likedo("jobs", "show", told["id"], "--json")
    assert (new["status"], new["model"]) == ("queued", "gpt-4")
    assert new["credits_held"] > 0
    assert bodies.load(told["id"], BodyAt.SQL) == body


BODY = {"model": "gpt-4", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Local:
    """A storage of the test's own."""
    files = Local(tmp_path / "files")
    monkeypatch.setattr(storage, "backend", lambda: files)
    return files


def line_of_a_batch(files: Local, body: dict[str, Any]) -> str:
    """Make a line of a batch a job, and return that's id."""
    job_id = queue(body_at=BodyAt.FILE)
    raw = orjson.dumps({"custom_id": "a", "body": body})
    files.save("files/file_1", b"\n" + raw)
    batch = {
        "id": "batch_1",
        "account_id": 1,
        "key_id": 1,
        "endpoint": "/v1/chat/completions",
        "kind": "chat",
        "input_file_id": "file_1",
        "output_seconds": 1,
        "status": "in_progress",
        "address": "",
        "fingerprint": "",
        "created": 1.0,
        "expires_at": 1e10,
    }
    line = {"batch_id": "batch_1", "number": 1, "custom_id": "a", "job_id": job_id}

    def make_it_a_line(connection: Connection) -> None:
        connection.execute(insert(Batch).values(batch))
        connection.execute(insert(BatchLine).values(line | {"start": 1, "length": len(raw)}))
        its = update(Job).where(col(Job.id) == job_id)
        connection.execute(its.values(batch_id="batch_1", line=1, asynchronous=True))

    database.run(make_it_a_line)
    return job_id


@pytest.mark.parametrize(("padding", "kept_in"), [(0, BodyAt.SQL), (70_000, BodyAt.STORAGE)])
def test_a_failed_line_of_a_batch_is_tried_again_as_a_job_of_its_own(
    likedo: Likedo, monkeypatch: pytest.MonkeyPatch, files: Local, padding: int, kept_in: BodyAt
) -> None:
    monkeypatch.setattr(settings, "openai_api_key", "sk-openai")
    body = BODY | {"user": "u" * padding}
    job_id = line_of_a_batch(files, body)
    fail(job_id)

    told = likedo("jobs", "retry", job_id, "--json")

    files.delete("files/file_1")
    new = store.find(told["id"])
    assert new is not None
    assert (new.batch_id, new.line, new.asynchronous) == (None, None, True)
    kept = bodies.load(new.id, new.body_at)
    assert (new.body_at, kept, new.body_bytes) == (kept_in, orjson.dumps(body), len(kept or b""))
    assert lifecycle_queue.queue("chat").get_job_ids() == [new.id]
    # What was the batch's is still its own.
    assert (status_of(job_id), status_of(new.id)) == ("failed", "queued")


def status_of(job_id: str) -> str:
    row = store.find(job_id)
    assert row is not None
    return str(row.status)


def test_a_job_that_cannot_be_queued_again_ends_free_of_charge(
    likedo: Likedo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "openai_api_key", "sk-openai")
    job_id = queue(body_at=BodyAt.SQL, body=orjson.dumps(BODY))
    fail(job_id)
    with redis.Redis(port=1) as nobody:
        monkeypatch.setattr(lifecycle_queue, "connection", lambda: nobody)

        said = likedo.refuses("jobs", "retry", job_id)

    assert "free of charge" in said and "queue does not answer" in said
    new = next(row for row in likedo("jobs", "list", "--json") if row["id"] != job_id)
    assert new["id"] in said
    assert (new["status"], new["credits_consumed"]) == ("failed", 0)
    assert likedo("credits", "show", "--account", "acme", "--json")["held"] == 0


def test_a_request_that_failed_while_it_waited_is_tried_again(
    likedo: Likedo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "openai_api_key", "sk-openai")
    job_id = queue(body_at=BodyAt.SQL, body=orjson.dumps(BODY))
    finish.end_unclaimed(job_id, BodyAt.SQL, Status.FAILED, Unavailable("It is lost."))

    told = likedo("jobs", "retry", job_id, "--json")

    assert bodies.load(told["id"], BodyAt.SQL) == orjson.dumps(BODY)


@pytest.mark.parametrize("state", ["queued", "failed", "completed"])
def test_what_cannot_be_tried_again_is_said(likedo: Likedo, state: str) -> None:
    job_id = queue()
    if state == "failed":
        fail(job_id)
    if state == "completed":
        complete(job_id)

    said = likedo.refuses("jobs", "retry", job_id)

    assert job_id in said
    assert ("not kept" in said) == (state != "queued")
