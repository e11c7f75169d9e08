"""Taking a request on: listen, hold, enqueue, in this order, so that no answer can be missed."""

import hashlib
import time
from typing import Any

from flask import g, request

from api import answers, client, guards
from billing import ledger, pricing
from billing.pricing import Price, Terms
from jobs import queues
from jobs.channel import Waiter
from models import errors, job
from models.job import Status

OUR_SIDE = "Something went wrong on our side."

#: What a later version of this service will do, and this one refuses rather than ignore.
NOT_YET = ("background", "webhook_url")


def refuse_what_is_not_yet(body: dict[str, Any]) -> None:
    for name in NOT_YET:
        # For images, `background` may be a word, which means something else.
        if body.get(name) is True or (name != "background" and body.get(name)):
            raise errors.UnsupportedParameter(
                f"'{name}' is not supported yet: leave it out.", param=name
            )


def accept(
    kind: str, body: bytes, terms: Terms, price: Price, **columns: Any
) -> tuple[Waiter, ledger.Hold]:
    """Hold for a request and put it in the queue of its `kind`; return who waits, and the hold.

    `price` is that of the model that was asked for, `columns` are those of the job's row beside
    what is the same for all. Raises what `ledger.hold` raises.
    """
    if client.current().gone():
        raise client.Gone
    job_id = job.make_id()
    g.job_headers = {"x-job-id": job_id}
    waiter = answers.listener().listen(job_id)
    try:
        row = _row(job_id, kind, body, price) | columns
        held = ledger.hold(row, terms)
        _enqueue(waiter, kind, body)
    except BaseException:
        waiter.close()
        raise
    return waiter, held


def _enqueue(waiter: Waiter, kind: str, body: bytes) -> None:
    try:
        waiter.ready()
        queues.enqueue(waiter.job_id, kind, body)
    except Exception as error:
        known = error if isinstance(error, errors.LikeDoError) else errors.InternalError(OUR_SIDE)
        ledger.end_unclaimed(waiter.job_id, Status.FAILED, known)
        raise


def _row(job_id: str, kind: str, body: bytes, price: Price) -> dict[str, Any]:
    now = time.time()
    return {
        "id": job_id,
        "account_id": guards.caller().account_id,
        "key_id": guards.caller().key_id,
        "kind": kind,
        "fingerprint": hashlib.sha256(request.path.encode() + b"\n" + body).hexdigest(),
        "body_bytes": len(body),
        "body_at": queues.body_place(body),
        "attempts": 0,
        "cancel_requested": False,
        "created": now,
        "enqueued_at": now,
        "price": pricing.as_text(price),
    }
