"""A batch's file, checked line by line before any of it begins; then its lines become rows."""

import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import gevent
import orjson
import structlog
from sqlalchemy import Row

from config.settings import settings
from jobs.batch import lines, ownership
from jobs.batch.lines import LineError, Span
from jobs.batch.ownership import CHUNK_ROWS, OwnedBatch, OwnershipLost
from models.batch import MAX_LINES, BatchStatus
from models.errors import LikeDoError
from storage import files

log = structlog.get_logger()

#: So many problems of one file are told; who has more knows enough.
MAX_PROBLEMS = 50


class ValidationReport:
    """What a file holds: its lines, or what is wrong with it."""

    def __init__(self) -> None:
        #: The `custom_id`, the start and the length of each, in order.
        self.lines: dict[str, tuple[int, int]] = {}
        self.problems: list[dict[str, Any]] = []

    def add_problem(self, error: LikeDoError, line: int | None = None) -> None:
        self.problems.append(
            {
                "code": lines.code_of(error),
                "line": line,
                "message": error.message,
                "param": error.param,
            }
        )


def validate(held: OwnedBatch, row: Row[Any]) -> None:
    """Bring a batch from `validating` to `in_progress` with its lines, or to `failed`."""
    found = ValidationReport()
    try:
        _read(held, row, found)
    except LineError as wrong:
        found.add_problem(wrong, wrong.line)
    validating = held.in_status(BatchStatus.VALIDATING)
    if found.problems:
        log.info("batch.failed", batch=row.id, problems=len(found.problems))
        told = orjson.dumps(found.problems).decode()
        ownership.advance(
            validating, status=BatchStatus.FAILED.value, failed_at=time.time(), errors=told
        )
        return
    # Some may be there of a worker that died at it.
    while ownership.forget_some_lines(validating):
        pass
    for some in _rows(row.id, found):
        ownership.insert_lines(validating, some)
    log.info("batch.begun", batch=row.id, lines=len(found.lines))
    ownership.advance(
        validating,
        status=BatchStatus.IN_PROGRESS.value,
        in_progress_at=time.time(),
        total=len(found.lines),
    )


def _read(held: OwnedBatch, row: Row[Any], found: ValidationReport) -> None:
    content = files.content(row.input_file_id)
    if content is None:
        raise LineError("file_not_found", "The input file is gone.", "input_file_id")
    with closing(content[1]) as pieces:
        for span in lines.spans(pieces, settings.max_body_bytes):
            gevent.sleep(0)  # The loop is not ours alone.
            if held.is_stopping():
                raise OwnershipLost
            _add(row, span, found)
            if len(found.problems) >= MAX_PROBLEMS:
                return
    if not found.lines and not found.problems:
        raise LineError("empty_file", "The input file has no lines.", "input_file_id")


def _add(row: Row[Any], span: Span, found: ValidationReport) -> None:
    if len(found.lines) >= MAX_LINES:
        raise LineError(
            "too_many_tasks", f"The input file has more than {MAX_LINES} lines.", "input_file_id"
        )
    try:
        custom_id = lines.check(span.raw, row.endpoint, row.kind)
        if custom_id in found.lines:
            raise LineError(
                "duplicate_custom_id",
                f"The custom_id '{custom_id}' is that of another line, too: each needs its own.",
                "custom_id",
            )
    except LikeDoError as error:
        found.add_problem(error, span.number)
    else:
        found.lines[custom_id] = (span.start, len(span.raw))


def _rows(batch_id: str, found: ValidationReport) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of the lines, some at a time."""
    rows: list[dict[str, Any]] = []
    for number, (custom_id, (start, length)) in enumerate(found.lines.items(), 1):
        place = {"number": number, "start": start, "length": length}
        rows.append({"batch_id": batch_id, "custom_id": custom_id, **place})
        if len(rows) == CHUNK_ROWS:
            yield rows
            rows = []
    if rows:
        yield rows
