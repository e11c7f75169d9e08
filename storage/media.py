"""Images that are kept for their accounts: saved, found, and forgotten when their time is up.

A file's row is there before the file and goes after it, so that no file is ever forgotten about.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import gevent
import structlog
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlmodel import col

import database
import storage
from config.settings import settings
from models.errors import Unavailable
from models.media import Media, make_name

if TYPE_CHECKING:
    pass  # Only who decodes images waits for Pillow.

log = structlog.get_logger()

DAY_SECONDS = 24 * 3600
#: Pauses between tries to keep an image that was paid for.
RETRY_SECONDS = (0.2, 0.5, 1, 2)
#: A file that was not whole after this never will be.
UNSTORED_SECONDS = 3600
#: Rows that are taken on at a time.
PAGE_SIZE = 200
#: Of what a provider says that it made of the prompt.
MAX_REVISED_CHARACTERS = 32_000


def keep(
    job_id: str,
    account_id: int,
    place: int,
    path: Path,
    finished: "NormalizedImage",
    revised_prompt: str | None,
) -> Media:
    """Keep the file at `path` as the job's image number `place`, from 0; return its row.

    Raises `Unavailable` where the storage or the database does not answer for some seconds.
    """
    row = _row(job_id, account_id, place, finished, revised_prompt)
    _surely(lambda: database.run(lambda connection: _insert(connection, row)))
    _surely(lambda: storage.backend().save_file(file_of(row.name), path, row.media_type))
    _surely(lambda: database.run(lambda connection: _mark_stored(connection, row.name)))
    row.is_stored = True
    return row


def _row(
    job_id: str,
    account_id: int,
    place: int,
    finished: "NormalizedImage",
    revised_prompt: str | None,
) -> Media:
    created = time.time()
    return Media(
        name=make_name(finished.media_type),
        account_id=account_id,
        job_id=job_id,
        place=place,
        media_type=finished.media_type,
        bytes=finished.bytes,
        width=finished.width,
        height=finished.height,
        revised_prompt=_storable(revised_prompt),
        created=created,
        expires=created + settings.media_ttl_days * DAY_SECONDS,
    )


def _storable(text: str | None) -> str | None:
    # PostgreSQL takes no NUL.
    return text.replace("\0", "")[:MAX_REVISED_CHARACTERS] if text else None


def _surely(work: Callable[[], None]) -> None:
    for pause in RETRY_SECONDS:
        try:
            return work()
        except Unavailable as error:
            log.warning("media.keeping_waits", reason=repr(error.__cause__ or error))
            gevent.sleep(pause)
    work()


def _insert(connection: Connection, row: Media) -> None:
    """Write the row, unless it is there: a transaction may have been run before."""
    its_name = col(Media.name) == row.name
    if connection.execute(select(col(Media.name)).where(its_name)).first() is None:
        connection.execute(insert(Media).values(row.model_dump()))


def _mark_stored(connection: Connection, name: str) -> None:
    connection.execute(update(Media).where(col(Media.name) == name).values(is_stored=True))


def file_of(name: str) -> str:
    """Return where in the storage the image `name` is."""
    return f"media/{name}"


def address(name: str) -> str:
    """Return the link to an image; of one that this service serves, the path alone."""
    return storage.backend().url(file_of(name)) or f"/media/{name}"


def of_job(job_id: str) -> list[Row[Any]]:
    """Return the images of a job that are stored, by place; of several at one, the first."""
    query = (
        select(database.table(Media))
        .where(col(Media.job_id) == job_id, col(Media.is_stored).is_(True))
        .order_by(col(Media.place), col(Media.created).desc(), col(Media.name))
    )
    found = database.run(lambda connection: list(connection.execute(query)))
    # A worker that died may have kept one that its successor kept again: the later row is read
    # first, and the earlier one takes its place.
    return list({row.place: row for row in found}.values())


def count(job_id: str) -> int:
    """Return how many of a job's images are stored."""
    query = select(func.count(func.distinct(col(Media.place)))).where(
        col(Media.job_id) == job_id, col(Media.is_stored).is_(True)
    )
    return database.run(lambda connection: int(connection.execute(query).scalar_one()))


def datum(kept: Media | Row[Any]) -> dict[str, Any]:
    """Return what a job's answer keeps of one image."""
    said = {"revised_prompt": kept.revised_prompt} if kept.revised_prompt else {}
    return {"media": kept.name, **said}


def listing(limit: int, account_id: int | None = None) -> list[Row[Any]]:
    """Return the newest `limit` images, stored or about to be, the newest first."""
    query = select(database.table(Media))
    if account_id is not None:
        query = query.where(col(Media.account_id) == account_id)
    query = query.order_by(col(Media.created).desc(), col(Media.name)).limit(limit)
    return database.run(lambda connection: list(connection.execute(query)))


def usage(account_id: int | None = None) -> Row[Any]:
    """Return how many `images` are stored, their `bytes`, and when the `oldest` was made."""
    query = select(
        func.count().label("images"),
        func.coalesce(func.sum(col(Media.bytes)), 0).label("bytes"),
        func.min(col(Media.created)).label("oldest"),
    ).where(col(Media.is_stored).is_(True))
    if account_id is not None:
        query = query.where(col(Media.account_id) == account_id)
    return database.run(lambda connection: cast("Row[Any]", connection.execute(query).one()))


# ---- Forgetting ----------------------------------------------------------------------------------


def forget(names: Iterable[str]) -> list[str]:
    """Delete these images, files and rows; return the names of those that are gone now.

    The others stay as they are, to be forgotten another time. Raises `Unavailable` where the
    database does not answer.
    """
    gone = [name for name in names if _delete_file(name)]
    for start in range(0, len(gone), PAGE_SIZE):
        _drop_rows(gone[start : start + PAGE_SIZE])
    return gone


def _drop_rows(names: list[str]) -> None:
    def work(connection: Connection) -> None:
        connection.execute(delete(Media).where(col(Media.name).in_(names)))

    database.run(work)


def _delete_file(name: str) -> bool:
    try:
        storage.backend().delete(file_of(name))
    except Unavailable as error:
        log.warning("media.not_deleted", name=name, reason=repr(error.__cause__ or error))
        return False
    return True


def forget_expired() -> int:
    """Delete the images whose time is up, and what was never stored; return how many."""
    return sum(len(forget([row.name for row in batch])) for batch in pages(expired()))


def expired() -> ColumnElement[bool]:
    """Return the condition of an image whose time is up, or that was never stored whole."""
    now = time.time()
    unstored = and_(col(Media.is_stored).is_(False), col(Media.created) < now - UNSTORED_SECONDS)
    return or_(col(Media.expires) < now, unstored)


def older_than(days: float) -> ColumnElement[bool]:
    """Return the condition of an image that was made that long ago, and is not being stored."""
    before = time.time() - days * DAY_SECONDS
    return or_(expired(), and_(col(Media.is_stored).is_(True), col(Media.created) < before))


def pages(
    condition: ColumnElement[bool], account_id: int | None = None
) -> Iterator[list[Row[Any]]]:
    """Yield the images that fit, some at a time, each once, whatever becomes of them meanwhile."""
    batch = _next("", condition, account_id)
    while batch:
        yield batch
        batch = _next(batch[-1].name, condition, account_id)


def _next(name: str, condition: ColumnElement[bool], account_id: int | None) -> list[Row[Any]]:
    query = select(col(Media.name), col(Media.bytes)).where(condition, col(Media.name) > name)
    if account_id is not None:
        query = query.where(col(Media.account_id) == account_id)
    query = query.order_by(col(Media.name)).limit(PAGE_SIZE)
    return database.run(lambda connection: list(connection.execute(query)))


@dataclass(frozen=True)
class NormalizedImage:
    """What is known of an image that was made ours; the sides are in pixels."""

    media_type: str
    bytes: int
    width: int
    height: int
