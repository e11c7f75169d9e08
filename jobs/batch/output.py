"""Write the output files of a batch: the answers, and the lines that failed or never ran."""

import hashlib
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import gevent
import orjson
from sqlalchemy import Connection, select, update
from sqlmodel import col

import database
from jobs.batch import ownership
from jobs.batch.ownership import BATCH_EXPIRED, OwnedBatch, OwnershipLost
from jobs.batch.store import BATCH_CANCELLED
from jobs.kinds import KINDS
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


class _Line:
    """A line with its job and its answer, if it has them."""

    number: int
    custom_id: str
    job_id: str | None
    #: Why it became no job.
    refusal: str | None
    #: The status of its job.
    status: str | None
    kind: str | None
    attempts: int | None
    error: str | None
    charged: int | None
    #: The answer.
    body: bytes | None


def write(owned: OwnedBatch, batch: Batch) -> None:
    """Write both files of a batch whose lines are all over, and end it."""
    with tempfile.TemporaryDirectory(dir=scratch.folder()) as folder:
        answers, failures = Path(folder, "output"), Path(folder, "errors")
        _write(owned, batch, answers, failures)
        file_ids = {
            "output_file_id": _save(batch, answers, "output"),
            "error_file_id": _save(batch, failures, "error"),
        }
    _close(owned, batch, file_ids)


def _write(owned: OwnedBatch, batch: Batch, answers: Path, failures: Path) -> None:
    with answers.open("wb") as output, failures.open("wb") as error:
        for line in _lines(batch):
            gevent.sleep(0)  # Let other greenlets run.
            if owned.is_stopping():
                raise OwnershipLost
            is_answer = line.status == Status.COMPLETED and line.body is not None
            (output if is_answer else error).writelines(_entry(batch, line))


def _save(batch: Batch, path: Path, suffix: str) -> str | None:
    """Store a file and return its id; None if it is empty."""
    if not path.stat().st_size:
        return None
    name = f"{batch.id}_{suffix}.jsonl"
    return files.save(batch.account_id, Purpose.BATCH_OUTPUT, name, path, batch.output_seconds)


def _close(owned: OwnedBatch, batch: Batch, file_ids: dict[str, str | None]) -> None:
    status = _final_status(batch)
    values = {"status": status.value, f"{status.value}_at": time.time(), **file_ids}
    may_change = owned.in_status(batch.status)

    def end_batch(connection: Connection) -> bool:
        if ownership.lock_if(connection, may_change) is None:
            return False
        files.show(connection, [file_id for file_id in file_ids.values() if file_id])
        of_batch = update(Batch).where(col(Batch.id) == batch.id)
        database.execute(of_batch.values(**values), connection)
        return True

    if not database.run(end_batch):
        raise OwnershipLost  # The saved files expire, as they were never shown.


def _final_status(batch: Batch) -> BatchStatus:
    if batch.status == BatchStatus.CANCELLING:
        return BatchStatus.CANCELLED
    reason = orjson.loads(batch.rest) if batch.rest else {}
    is_expired = reason.get("code") == BATCH_EXPIRED["code"]
    return BatchStatus.EXPIRED if is_expired else BatchStatus.COMPLETED


def _lines(batch: Batch) -> Iterator[_Line]:
    """Yield all lines in order."""
    last = 0
    while chunk := _chunk(batch.id, last):
        yield from chunk
        last = chunk[-1].number


def _chunk(batch_id: str, after: int) -> list[_Line]:
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
    return database.all(query, _Line)


# ---- One line ------------------------------------------------------------------------------------


def _entry(batch: Batch, line: _Line) -> Iterable[bytes]:
    """Return a line of an output file, in pieces."""
    if line.status == Status.COMPLETED:
        if line.body is None:
            return _without_response(batch, line, LOST)
        return _with_response(batch, line, 200, _rendered(batch, line, line.body))
    if line.job_id is None:
        reason = line.refusal or batch.rest
        assert reason is not None  # Else it would still be dispatched.
        return _without_response(batch, line, orjson.loads(reason))
    if line.status == Status.CANCELLED and not line.attempts:
        return _without_response(batch, line, _cancel_reason(batch, line))
    return _failed(batch, line)


def _without_response(batch: Batch, line: _Line, error: dict[str, str]) -> Iterable[bytes]:
    return [orjson.dumps(_head(batch, line) | {"response": None, "error": error}), b"\n"]


def _cancel_reason(batch: Batch, line: _Line) -> dict[str, str]:
    if batch.cancelling_at is not None:
        return BATCH_CANCELLED
    error = _error(line)
    return {"code": error.code, "message": error.message}


def _failed(batch: Batch, line: _Line) -> Iterable[bytes]:
    error = _error(line)
    if line.body is not None:
        # Images that were stored, and paid for, before the job was cancelled.
        answer = orjson.loads(line.body) | {"error": error.as_json()}
        body = _rendered(batch, line, orjson.dumps(answer))
    else:
        failure = {"error": error.as_json(), "credits_consumed": line.charged}
        body = iter([orjson.dumps(failure)])
    return _with_response(batch, line, error.status, body)


def _error(line: _Line) -> LikeDoError:
    assert line.error is not None  # Its job failed.
    return errors.from_record(orjson.loads(line.error))


def _rendered(batch: Batch, line: _Line, body: bytes) -> Iterator[bytes]:
    assert line.kind is not None  # A line with a response has a job.
    return KINDS[line.kind].render(body, batch.address)[1]


def _with_response(
    batch: Batch, line: _Line, status: int, body: Iterator[bytes]
) -> Iterator[bytes]:
    response = orjson.dumps({"status_code": status, "request_id": line.job_id})
    yield orjson.dumps(_head(batch, line))[:-1] + b',"response":' + response[:-1] + b',"body":'
    yield from body
    yield b'},"error":null}\n'


def _head(batch: Batch, line: _Line) -> dict[str, str]:
    # A line that is written again after a crash keeps its id.
    digest = hashlib.sha256(f"{batch.id} {line.number}".encode()).hexdigest()
    return {"id": f"batch_req_{digest[:32]}", "custom_id": line.custom_id}
