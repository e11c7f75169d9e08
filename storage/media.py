"""Accounts' images: stores, finds and lists them, and deletes them when they expire.

An image's row is inserted before the file is stored and deleted after it, so no file is orphaned.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent
import structlog
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    delete,
    false,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)
from sqlmodel import col

import database
import storage
from config.settings import settings
from models.errors import Unavailable
from models.media import Media, make_name

log = structlog.get_logger()

DAY_SECONDS = 24 * 3600
#: Pauses between attempts to store an image that was paid for.
RETRY_SECONDS = (0.2, 0.5, 1, 2)
#: An image that is not stored after this never will be.
UNSTORED_SECONDS = 3600
#: Rows that are read or deleted at a time.
PAGE_SIZE = 200
#: Longer revised prompts of a provider are truncated.
MAX_REVISED_CHARACTERS = 32_000


def keep(
    job_id: str,
    account_id: int,
    index: int,
    path: Path,
    normalized: "NormalizedImage",
    revised_prompt: str | None,
) -> Media:
    """Store the file at `path` as the job's image `index`, from 0; return its row.

    Raises `Unavailable` if the storage or the database does not answer for some seconds.
    """
    row = _row(job_id, account_id, index, normalized, revised_prompt)
    _retry(lambda: database.run(lambda connection: _insert(connection, row)))
    _retry(lambda: storage.backend().save_file(file_of(row.name), path, row.media_type))
    _retry(lambda: database.run(lambda connection: _mark_stored(connection, row.name)))
    row.is_stored = True
    return row


def _row(
    job_id: str,
    account_id: int,
    index: int,
    normalized: "NormalizedImage",
    revised_prompt: str | None,
) -> Media:
    created = time.time()
    return Media(
        name=make_name(normalized.media_type),
        account_id=account_id,
        job_id=job_id,
        place=index,
        media_type=normalized.media_type,
        bytes=normalized.bytes,
        width=normalized.width,
        height=normalized.height,
        revised_prompt=_storable(revised_prompt),
        created=created,
        expires=created + settings.media_ttl_days * DAY_SECONDS,
    )


def _storable(text: str | None) -> str | None:
    # PostgreSQL rejects NUL.
    return text.replace("\0", "")[:MAX_REVISED_CHARACTERS] if text else None


def _retry(step: Callable[[], None]) -> None:
    """Run one step of storing an image, again if the storage or database does not answer."""
    for pause in RETRY_SECONDS:
        try:
            return step()
        except Unavailable as error:
            log.warning("media.keep_delayed", reason=repr(error.__cause__ or error))
            gevent.sleep(pause)
    step()


def _insert(connection: Connection, row: Media) -> None:
    """Insert the row unless it exists: the transaction may have run before."""
    has_name = col(Media.name) == row.name
    if connection.execute(select(col(Media.name)).where(has_name)).first() is None:
        connection.execute(insert(Media).values(row.model_dump()))


def _mark_stored(connection: Connection, name: str) -> None:
    connection.execute(update(Media).where(col(Media.name) == name).values(is_stored=True))


def file_of(name: str) -> str:
    """Return the image's name in the storage."""
    return f"media/{name}"


def address(name: str) -> str:
    """Return the link to an image; only the path if this service serves it."""
    return storage.backend().url(file_of(name)) or f"/media/{name}"


def of_job(job_id: str) -> list[Media]:
    """Return a job's stored images by index; of several with the same index, the first."""
    query = (
        select(database.table(Media))
        .where(col(Media.job_id) == job_id, col(Media.is_stored).is_(True))
        .order_by(col(Media.place), col(Media.created).desc(), col(Media.name))
    )
    # A worker that died may have stored an image that its successor stored again: the later row is
    # read first, and the earlier one replaces it.
    return list({row.place: row for row in database.all(query, Media)}.values())


def count(job_id: str) -> int:
    """Return how many of a job's images are stored."""
    query = select(func.count(func.distinct(col(Media.place)))).where(
        col(Media.job_id) == job_id, col(Media.is_stored).is_(True)
    )
    return int(database.scalar(query))


def datum(image: Media | Row[Any]) -> dict[str, Any]:
    """Return what a job's stored answer holds of one image."""
    revised = {"revised_prompt": image.revised_prompt} if image.revised_prompt else {}
    return {"media": image.name, **revised}


def listing(limit: int, account_id: int | None = None) -> list[Media]:
    """Return the newest `limit` images, stored or about to be, newest first."""
    query = select(database.table(Media))
    if account_id is not None:
        query = query.where(col(Media.account_id) == account_id)
    query = query.order_by(col(Media.created).desc(), col(Media.name)).limit(limit)
    return database.all(query, Media)


class Usage:
    """How many images are stored, their bytes, and when the oldest was made."""

    images: int
    bytes: int
    oldest: float | None


def usage(account_id: int | None = None) -> Usage:
    """Return how much is stored, for one account or for all."""
    query = select(
        func.count().label("images"),
        func.coalesce(func.sum(col(Media.bytes)), 0).label("bytes"),
        func.min(col(Media.created)).label("oldest"),
    ).where(col(Media.is_stored).is_(True))
    if account_id is not None:
        query = query.where(col(Media.account_id) == account_id)
    row = database.one(query, Usage)
    assert row is not None  # A query of aggregates alone has one row.
    return row


# ---- Deleting ------------------------------------------------------------------------------------


def forget(names: Iterable[str]) -> list[str]:
    """Delete these images, files and rows; return the names of those that were deleted.

    The others stay as they are, to be deleted another time. Raises `Unavailable` if the database
    does not answer.
    """
    deleted = [name for name in names if _delete_file(name)]
    for start in range(0, len(deleted), PAGE_SIZE):
        names_of_page = deleted[start : start + PAGE_SIZE]
        database.execute(delete(Media).where(col(Media.name).in_(names_of_page)))
    return deleted


def _delete_file(name: str) -> bool:
    try:
        storage.backend().delete(file_of(name))
    except Unavailable as error:
        log.warning("media.not_deleted", name=name, reason=repr(error.__cause__ or error))
        return False
    return True


def forget_expired() -> int:
    """Delete the images that have expired or were never stored; return how many."""
    now = time.time()
    age = (
        (col(Media.expires), col(Media.expires) < now),
        (col(Media.created), and_(_is_unstored(), col(Media.created) < now - UNSTORED_SECONDS)),
    )
    return sum(_forget_oldest(column, condition) for column, condition in age)


def _forget_oldest(column: Any, condition: ColumnElement[bool]) -> int:
    """Delete the images that match `condition`, in the order of `column`, which has an index."""
    count, last = 0, (0.0, "")
    position = (column, col(Media.name))
    query = select(col(Media.name), column.label("at")).where(condition)
    query = query.order_by(*position).limit(PAGE_SIZE)
    # Those that the storage could not delete are passed.
    while page := database.all(query.where(column >= last[0], tuple_(*position) > last), _Aged):
        count += len(forget([row.name for row in page]))
        last = (page[-1].at, page[-1].name)
    return count


class _Aged:
    name: str
    at: float


def _is_unstored() -> ColumnElement[bool]:
    # As in the condition of its index.
    return col(Media.is_stored) == false()


def expired() -> ColumnElement[bool]:
    """Return the condition that an image has expired, or was never stored whole."""
    now = time.time()
    unstored = and_(col(Media.is_stored).is_(False), col(Media.created) < now - UNSTORED_SECONDS)
    return or_(col(Media.expires) < now, unstored)


def older_than(days: float) -> ColumnElement[bool]:
    """Return the condition that an image is that old and stored, or has expired."""
    before = time.time() - days * DAY_SECONDS
    return or_(expired(), and_(col(Media.is_stored).is_(True), col(Media.created) < before))


class StoredName:
    """An image's name and size."""

    name: str
    bytes: int


def pages(
    condition: ColumnElement[bool], account_id: int | None = None
) -> Iterator[list[StoredName]]:
    """Yield the matching images in pages, each once, even if they are deleted meanwhile."""
    page = _page_after("", condition, account_id)
    while page:
        yield page
        page = _page_after(page[-1].name, condition, account_id)


def _page_after(
    name: str, condition: ColumnElement[bool], account_id: int | None
) -> list[StoredName]:
    query = select(col(Media.name), col(Media.bytes)).where(condition, col(Media.name) > name)
    if account_id is not None:
        query = query.where(col(Media.account_id) == account_id)
    query = query.order_by(col(Media.name)).limit(PAGE_SIZE)
    return database.all(query, StoredName)


@dataclass(frozen=True)
class NormalizedImage:
    """An image after normalization; width and height are in pixels."""

    media_type: str
    bytes: int
    width: int
    height: int
