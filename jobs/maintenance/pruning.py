"""Pruning: rows that nobody needs any more are deleted, some at a time.

Each table that grows has its statement here, or with its files in `expiry`. Each statement is a
transaction of its own and begins where an index says that the oldest rows are, so none keeps
others from the database for long. `docs/bounds.md` lists all tables.
"""

import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Delete, Update, delete, func, select, tuple_, update
from sqlmodel import col

import database
from billing import holds
from jobs.maintenance import recovery
from models.job import Body, Idempotency, Job, Result
from models.provider_call import ProviderCall
from models.webhook import EXPIRY_SECONDS, Webhook

#: How long the request of a failed job is kept, for an operator to retry it, and the provider calls
#: of an ended one.
FAILED_BODY_SECONDS = PROVIDER_CALL_SECONDS = 24 * 3600
#: How long a webhook is kept after its job's end, if it is not waiting.
WEBHOOK_SECONDS = 7 * 24 * 3600
#: Results may be large, and SQLite writes each of their pages when they are deleted.
MAX_RESULTS = 100

NEVER_SENT = "No worker could send it within a day."


def prune() -> None:
    """Delete some of the rows that have expired, and give up some webhooks."""
    for statement in STATEMENTS:
        database.execute(statement())
    _prune_bodies()


def _results() -> Delete:
    expired = select(col(Result.job_id)).where(col(Result.expires_at) < time.time())
    oldest = expired.order_by(col(Result.expires_at)).limit(MAX_RESULTS)
    return delete(Result).where(col(Result.job_id).in_(oldest))


class _BodyOf:
    job_id: str


#: The job of the body at which the last look at the bodies ended; the next begins after it.
_last_body = ""


def _prune_bodies() -> None:
    """Delete the bodies in SQL of jobs that have ended: only those of failed ones are still there.

    Any number may wait for their jobs, so a part of them is looked at, and the next time another.
    """
    global _last_body
    query = select(col(Body.job_id)).where(col(Body.job_id) > _last_body)
    page = database.all(query.order_by(col(Body.job_id)).limit(recovery.PAGE_SIZE), _BodyOf)
    ended = select(col(Job.id)).where(
        col(Job.id).in_([body.job_id for body in page]),
        col(Job.finished_at) < time.time() - FAILED_BODY_SECONDS,
    )
    database.execute(delete(Body).where(col(Body.job_id).in_(ended)))
    _last_body = page[-1].job_id if len(page) == recovery.PAGE_SIZE else ""


def _idempotency() -> Delete:
    before = time.time() - holds.IDEMPOTENCY_SECONDS
    key = (col(Idempotency.key_id), col(Idempotency.name))
    expired: Any = select(*key).where(col(Idempotency.created) < before)
    oldest = expired.order_by(col(Idempotency.created)).limit(recovery.PAGE_SIZE)
    return delete(Idempotency).where(tuple_(*key).in_(oldest))


def _provider_calls() -> Delete:
    """The oldest provider calls, once their jobs have ended.

    Only the oldest are looked at: a job that takes longer delays the others by a day at most.
    """
    oldest = (
        select(col(ProviderCall.id), col(ProviderCall.job_id))
        .order_by(col(ProviderCall.id))
        .limit(recovery.PAGE_SIZE)
        .subquery()
    )
    before = time.time() - PROVIDER_CALL_SECONDS
    ended = select(oldest.c.id).join(Job, col(Job.id) == oldest.c.job_id)
    return delete(ProviderCall).where(
        col(ProviderCall.id).in_(ended.where(col(Job.finished_at) < before))
    )


def _overdue_webhooks() -> Update:
    """Webhooks that were not delivered in time, tried or not, unless one is being sent."""
    now = time.time()
    overdue = select(col(Webhook.id)).where(
        col(Webhook.expires_at) < now, col(Webhook.next_at) <= now
    )
    oldest = overdue.order_by(col(Webhook.expires_at)).limit(recovery.PAGE_SIZE)
    return (
        update(Webhook)
        .where(col(Webhook.id).in_(oldest))
        .values(
            next_at=None,
            gave_up_at=now,
            last_error=func.coalesce(col(Webhook.last_error), NEVER_SENT),
        )
    )


def _unlimited_webhooks() -> Update:
    """Webhooks that a process of an earlier version has put in the outbox."""
    unlimited = select(col(Webhook.id)).where(
        col(Webhook.expires_at).is_(None), col(Webhook.next_at).is_not(None)
    )
    return (
        update(Webhook)
        .where(col(Webhook.id).in_(unlimited.limit(recovery.PAGE_SIZE)))
        .values(expires_at=time.time() + EXPIRY_SECONDS)
    )


def _ended_webhooks() -> Delete:
    ended = select(col(Webhook.id)).where(
        col(Webhook.next_at).is_(None), col(Webhook.created) < time.time() - WEBHOOK_SECONDS
    )
    oldest = ended.order_by(col(Webhook.created)).limit(recovery.PAGE_SIZE)
    return delete(Webhook).where(col(Webhook.id).in_(oldest))


STATEMENTS: tuple[Callable[[], Delete | Update], ...] = (
    *(_results, _idempotency, _provider_calls),
    *(_overdue_webhooks, _unlimited_webhooks, _ended_webhooks),
)
