"""Take on a request: listen, hold, enqueue, in this order, so that no answer is missed."""

import time
from typing import Any

from flask import Response, g

from api.request import admission, idempotency, prefer
from api.response import job
from api.server import client
from api.server.client import Gone
from billing import pricing
from billing.holds import ExistingJob, Hold
from billing.pricing import Price, Quote
from jobs.following import listener
from jobs.lifecycle import bodies, new, store
from jobs.streaming.pubsub import Subscription
from jobs.webhook.receiver import check_url
from models import job as job_model
from models.errors import InvalidRequest

MAX_URL_CHARACTERS = 2000


class Accepted:
    """A request that was taken on: its hold, and who waits for it."""

    def __init__(self, job_id: str, waiter: Subscription | None, hold: Hold) -> None:
        self.job_id = job_id
        #: None where the caller is to come back.
        self.waiter = waiter
        self.hold = hold

    def job(self) -> Response:
        """Return the job itself: 202."""
        row = store.find(self.job_id)
        assert row is not None
        return job.accepted(row)


def is_asynchronous(body: dict[str, Any]) -> bool:
    """Tell whether a request wants a job for an answer; raise what is wrong with its webhook."""
    # For images, `background` may be a word, which means something else.
    asynchronous = body.get("background") is True or prefer.asynchronously()
    if body.get("webhook_url") is not None:
        _check_webhook(body["webhook_url"], asynchronous)
    return asynchronous


def _check_webhook(url: str, asynchronous: bool) -> None:
    if not asynchronous:
        raise InvalidRequest(
            "'webhook_url' is for asynchronous requests: send \"background\": true with it.",
            param="webhook_url",
        )
    check_url(url)
    if len(url) > MAX_URL_CHARACTERS:
        raise InvalidRequest(
            f"The webhook's URL is too long: at most {MAX_URL_CHARACTERS} characters are taken.",
            param="webhook_url",
        )


def submit(
    kind: str, body: bytes, terms: Quote, price: Price, asynchronous: bool, **columns: Any
) -> Accepted | ExistingJob:
    """Hold for a request and put it in the queue of its `kind`.

    `price` is that of the model that was asked for, `columns` are those of the job's row beside
    what is the same for all. Raises what `ledger.hold` raises. Returns which job it is where a
    request of the same name was taken on a moment ago.
    """
    if client.current().gone():
        raise Gone
    job_id = job_model.make_id()
    waiter = None if asynchronous else listener.listener().listen(job_id)
    try:
        row = _row(job_id, kind, body, price, asynchronous) | columns
        held = new.hold(row, body, terms)
        if isinstance(held, ExistingJob):
            if waiter:
                waiter.close()
            admission.take_hit_back()
            return held
        # From here on there is such a job; who is refused before is not told of one.
        g.job_headers = {"x-job-id": job_id}
        new.enqueue(row, waiter, body, held)
    except BaseException:
        if waiter:
            waiter.close()
        raise
    return Accepted(job_id, waiter, held)


def _row(job_id: str, kind: str, body: bytes, price: Price, asynchronous: bool) -> dict[str, Any]:
    now = time.time()
    return {
        "id": job_id,
        "account_id": admission.caller().account_id,
        "key_id": admission.caller().key_id,
        "kind": kind,
        "fingerprint": idempotency.fingerprint(body),
        "body_bytes": len(body),
        "body_at": bodies.choose_location(body, outlives_redis=asynchronous),
        "attempts": 0,
        "cancel_requested": False,
        "asynchronous": asynchronous,
        "is_idempotent": idempotency.key_digest() is not None,
        "created": now,
        "enqueued_at": now,
        "price": pricing.as_text(price),
    }
