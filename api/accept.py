"""Taking a request on: listen, hold, enqueue, in this order, so that no answer can be missed."""

import time
from typing import Any

from flask import Response, g

from api import answers, client, guards, jobs, prefer, retries
from billing import ledger, pricing
from billing.ledger import Hold, There
from billing.pricing import Price, Terms
from jobs import places, queues, rows, webhooks
from jobs.channel import Waiter
from models import errors, job
from models.job import BodyAt, Status

OUR_SIDE = "Something went wrong on our side."
MAX_URL_CHARACTERS = 2000


class Accepted:
    """A request that was taken on: its hold, and who waits for it."""

    def __init__(self, job_id: str, waiter: Waiter | None, hold: Hold) -> None:
        self.job_id = job_id
        #: None where the caller is to come back.
        self.waiter = waiter
        self.hold = hold

    def job(self) -> Response:
        """Return the job itself: 202."""
        row = rows.find(self.job_id)
        assert row is not None
        return jobs.accepted(row)


def is_asynchronous(body: dict[str, Any]) -> bool:
    """Tell whether a request wants a job for an answer; raise what is wrong with its webhook."""
    # For images, `background` may be a word, which means something else.
    asynchronous = body.get("background") is True or prefer.asynchronously()
    if body.get("webhook_url") is not None:
        _check_webhook(body["webhook_url"], asynchronous)
    return asynchronous


def _check_webhook(url: str, asynchronous: bool) -> None:
    if not asynchronous:
        raise errors.InvalidRequest(
            "'webhook_url' is for asynchronous requests: send \"background\": true with it.",
            param="webhook_url",
        )
    webhooks.check_url(url)
    if len(url) > MAX_URL_CHARACTERS:
        raise errors.InvalidRequest(
            f"The webhook's URL is too long: at most {MAX_URL_CHARACTERS} characters are taken.",
            param="webhook_url",
        )


def accept(
    kind: str, body: bytes, terms: Terms, price: Price, asynchronous: bool, **columns: Any
) -> Accepted | There:
    """Hold for a request and put it in the queue of its `kind`.

    `price` is that of the model that was asked for, `columns` are those of the job's row beside
    what is the same for all. Raises what `ledger.hold` raises. Returns which job it is where a
    request of the same name was taken on a moment ago.
    """
    if client.current().gone():
        raise client.Gone
    job_id = job.make_id()
    waiter = None if asynchronous else answers.listener().listen(job_id)
    try:
        row = _row(job_id, kind, body, price, asynchronous) | columns
        held = _hold(row, body, terms)
        if isinstance(held, There):
            if waiter:
                waiter.close()
            guards.take_count_back()
            return held
        # From here on there is such a job; who is refused before is not told of one.
        g.job_headers = {"x-job-id": job_id}
        _enqueue(row, waiter, body, held)
    except BaseException:
        if waiter:
            waiter.close()
        raise
    return Accepted(job_id, waiter, held)


def _hold(row: dict[str, Any], body: bytes, terms: Terms) -> Hold | There:
    """Hold for a job whose body is where it waits by then, unless that is Redis.

    From the moment of the hold on others may put it in the queue.
    """
    held: Hold | There | None = None
    try:
        if row["body_at"] is BodyAt.STORAGE:
            queues.save_file(row["id"], body)
        kept = body if row["body_at"] is BodyAt.SQL else None
        held = ledger.hold(row, terms, guards.plan().places(row["kind"]), retries.name(), kept)
    finally:
        if not isinstance(held, Hold):
            queues.forget_file(row["id"], row["body_at"])
    return held


def _enqueue(row: dict[str, Any], waiter: Waiter | None, body: bytes, held: Hold) -> None:
    try:
        if waiter:
            waiter.ready()
        in_redis = body if row["body_at"] is BodyAt.REDIS else None
        queues.enqueue(row["id"], row["kind"], in_redis, held.has_place)
        if not held.has_place:
            places.let_in(row["account_id"])
    except Exception as error:
        known = error if isinstance(error, errors.LikeDoError) else errors.InternalError(OUR_SIDE)
        if ledger.end_unclaimed(row["id"], Status.FAILED, known):
            queues.forget_body(row["id"], row["body_at"], Status.FAILED)
            # Its caller is told, and who tries again wants another try.
            rows.mark_handed_over([row["id"]])
        raise


def _row(job_id: str, kind: str, body: bytes, price: Price, asynchronous: bool) -> dict[str, Any]:
    now = time.time()
    return {
        "id": job_id,
        "account_id": guards.caller().account_id,
        "key_id": guards.caller().key_id,
        "kind": kind,
        "fingerprint": retries.fingerprint(body),
        "body_bytes": len(body),
        "body_at": queues.body_place(body, outlives_redis=asynchronous),
        "attempts": 0,
        "cancel_requested": False,
        "asynchronous": asynchronous,
        "is_idempotent": retries.name() is not None,
        "created": now,
        "enqueued_at": now,
        "price": pricing.as_text(price),
    }
