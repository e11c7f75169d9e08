"""The files that a batch leaves: the answers, and what failed or was never run, in its order."""

import hashlib
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import gevent
import orjson
from sqlalchemy import Connection, Row, select, update
from sqlmodel import col

import database
from jobs.batch import ownership
from jobs.batch.ownership import BATCH_EXPIRED, OwnedBatch, OwnershipLost
from jobs.batch.store import BATCH_CANCELLED
from jobs.kinds.image_answer import render
from jobs.worker import scratch
from models import errors
from models.batch import Batch, BatchLine, BatchStatus
from models.errors import LikeDoError
from models.file import Purpose
from models.job import Job, Result, Status
from storage import files

#: Lines that are read at a time, with their answers.
CHUNK_ROWS = 50
LOST = {"code": "internal_error", "message": "The answer of this request is no longer kept."}


def write(held: OwnedBatch, row: Row[Any]) -> None:
    """Write both files of a batch whose lines are all over, and end it."""
    with tempfile.TemporaryDirectory(dir=scratch.own()) as folder:
        answers, failures = Path(folder, "output"), Path(folder, "errors")
        _write(held, row, answers, failures)
        saved = {
            "output_file_id": _save(row, answers, "output"),
            "error_file_id": _save(row, failures, "error"),
        }
    _close(held, row, saved)


def _write(held: OwnedBatch, row: Row[Any], answers: Path, failures: Path) -> None:
    with answers.open("wb") as output, failures.open("wb") as error:
        for line in _lines(row):
            gevent.sleep(0)  # The loop is not ours alone.
            if held.is_stopping():
                raise OwnershipLost
            is_answer = line.status == Status.COMPLETED and line.body is not None
            (output if is_answer else error).writelines(_entry(row, line))


def _save(row: Row[Any], path: Path, what: str) -> str | None:
    """Keep a file, and return its id; None where there is nothing in it."""
    if not path.stat().st_size:
        return None
    name = f"{row.id}_{what}.jsonl"
    return files.save(row.account_id, Purpose.BATCH_OUTPUT, name, path, row.output_seconds)


def _close(held: OwnedBatch, row: Row[Any], saved: dict[str, str | None]) -> None:
    status = _last_status(row)
    values = {"status": status.value, f"{status.value}_at": time.time(), **saved}
    ours = held.in_status(row.status)

    def work(connection: Connection) -> bool:
        if ownership.lock_if(connection, ours) is None:
            return False
        files.show(connection, [file_id for file_id in saved.values() if file_id])
        connection.execute(update(Batch).where(col(Batch.id) == row.id).values(**values))
        return True

    if not database.run(work):
        raise OwnershipLost  # What was saved is forgotten as what was never shown.


def _last_status(row: Row[Any]) -> BatchStatus:
    if row.status == BatchStatus.CANCELLING:
        return BatchStatus.CANCELLED
    rest = orjson.loads(row.rest) if row.rest else {}
    is_late = rest.get("code") == BATCH_EXPIRED["code"]
    return BatchStatus.EXPIRED if is_late else BatchStatus.COMPLETED


def _lines(row: Row[Any]) -> Iterator[Row[Any]]:
    """Yield all lines in order, each with its job and its answer where it has them."""
    last = 0
    while some := _some_lines(row.id, last):
        yield from some
        last = some[-1].number


def _some_lines(batch_id: str, after: int) -> list[Row[Any]]:
    query: Any = (
        select(
            *(col(BatchLine.number), col(BatchLine.custom_id), col(BatchLine.job_id)),
            *(col(BatchLine.error).label("refusal"), col(Job.status), col(Job.kind)),
            *(col(Job.attempts), col(Job.error), col(Job.charged), col(Result.body)),
        )
        .outerjoin(Job, col(Job.id) == col(BatchLine.job_id))
        .outerjoin(Result, col(Result.job_id) == col(BatchLine.job_id))
        .where(col(BatchLine.batch_id) == batch_id, col(BatchLine.number) > after)
        .order_by(col(BatchLine.number))
        .limit(CHUNK_ROWS)
    )
    return database.run(lambda connection: list(connection.execute(query)))


# ---- One line ------------------------------------------------------------------------------------


def _entry(row: Row[Any], line: Row[Any]) -> Iterable[bytes]:
    """Return a line of a file, in pieces."""
    if line.status == Status.COMPLETED:
        return _without_response(row, line, LOST) if line.body is None else _answered(row, line)
    if line.job_id is None:
        return _without_response(row, line, orjson.loads(line.refusal or row.rest))
    if line.status == Status.CANCELLED and not line.attempts:
        return _without_response(row, line, _why_cancelled(row, line))
    return _failed(row, line)


def _without_response(row: Row[Any], line: Row[Any], error: dict[str, str]) -> Iterable[bytes]:
    return [orjson.dumps(_head(row, line) | {"response": None, "error": error}), b"\n"]


def _why_cancelled(row: Row[Any], line: Row[Any]) -> dict[str, str]:
    if row.cancelling_at is not None:
        return BATCH_CANCELLED
    error = _error(line)
    return {"code": error.code, "message": error.message}


def _answered(row: Row[Any], line: Row[Any]) -> Iterable[bytes]:
    return _with_response(row, line, 200, _shown(row, line, line.body))


def _failed(row: Row[Any], line: Row[Any]) -> Iterable[bytes]:
    error = _error(line)
    if line.body is not None:
        # Images that were stored, and paid for, before it was cancelled.
        kept = orjson.loads(line.body) | {"error": error.as_json()}
        body = _shown(row, line, orjson.dumps(kept))
    else:
        told = {"error": error.as_json(), "credits_consumed": line.charged}
        body = iter([orjson.dumps(told)])
    return _with_response(row, line, error.status, body)


def _error(line: Row[Any]) -> LikeDoError:
    return errors.from_record(orjson.loads(line.error))


def _shown(row: Row[Any], line: Row[Any], body: bytes) -> Iterator[bytes]:
    return render(body, row.address)[1] if line.kind == "image" else iter([body])


def _with_response(
    row: Row[Any], line: Row[Any], status: int, body: Iterator[bytes]
) -> Iterator[bytes]:
    response = orjson.dumps({"status_code": status, "request_id": line.job_id})
    yield orjson.dumps(_head(row, line))[:-1] + b',"response":' + response[:-1] + b',"body":'
    yield from body
    yield b'},"error":null}\n'


def _head(row: Row[Any], line: Row[Any]) -> dict[str, str]:
    # Written again after a crash, the same line has the same id.
    digest = hashlib.sha256(f"{row.id} {line.number}".encode()).hexdigest()
    return {"id": f"batch_req_{digest[:32]}", "custom_id": line.custom_id}
