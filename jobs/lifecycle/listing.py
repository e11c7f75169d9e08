"""Pages of jobs, found by indexes however many jobs there are."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, and_, or_, select, union_all
from sqlmodel import col

import database
from jobs.kinds import KINDS
from models.job import FINAL, IS_ENDED, IS_IN_PROGRESS, IS_QUEUED, IS_UNFINISHED, Job, Status


def newest(
    limit: int,
    account_id: int | None = None,
    status: str | None = None,
    kind: str | None = None,
    after: Job | None = None,
) -> list[Job]:
    """Return the newest `limit` matching jobs, newest first; with `after`, only older ones.

    Batch lines are left out: there may be thousands, and their batch reports them.
    """
    conditions: list[ColumnElement[bool]] = [col(Job.batch_id).is_(None)]
    if account_id is not None:
        conditions.append(col(Job.account_id) == account_id)
    if after is not None:
        same_time = and_(col(Job.created) == after.created, col(Job.id) < after.id)
        is_older = or_(col(Job.created) < after.created, same_time)
        conditions += [col(Job.created) <= after.created, is_older]
    parts = [part.where(*conditions) for part in _unfinished(status, kind)]
    parts += [
        part.where(*conditions).order_by(*_NEWEST_FIRST).limit(limit)
        for part in _ended(status, kind)
    ]
    newest = [select(part.subquery()) for part in parts]
    found = union_all(*newest).subquery()
    ids = select(found.c.id).order_by(found.c.created.desc(), found.c.id.desc()).limit(limit)
    query = select(database.table(Job)).where(col(Job.id).in_(ids.subquery().select()))
    return database.all(query.order_by(*_NEWEST_FIRST), Job)


_NEWEST_FIRST = (col(Job.created).desc(), col(Job.id).desc())


_IDS = select(col(Job.id), col(Job.created))


def _unfinished(status: str | None, kind: str | None) -> Iterator[Any]:
    """Yield the queries for matching unfinished jobs, few enough to be read whole."""
    conditions = {Status.QUEUED: IS_QUEUED, Status.IN_PROGRESS: IS_IN_PROGRESS}
    is_status = IS_UNFINISHED if status is None else conditions.get(Status(status))
    if is_status is None:
        return
    is_kind = col(Job.kind).in_(_kinds(kind))
    # Two parts, as SQLite takes the index of unfinished jobs only for two of its columns.
    for has_slot in (col(Job.enqueued_at).is_(None), col(Job.enqueued_at) >= 0):
        yield _IDS.where(IS_UNFINISHED, is_status, has_slot, is_kind)


def _ended(status: str | None, kind: str | None) -> Iterator[Any]:
    """Yield the queries for matching ended jobs, each in the order of an index of its own."""
    for final in sorted(FINAL if status is None else FINAL & {Status(status)}):
        for name in _kinds(kind):
            yield _IDS.where(IS_ENDED, col(Job.kind) == name, col(Job.status) == final.value)


def _kinds(kind: str | None) -> list[str]:
    return list(KINDS) if kind is None else [kind]
