"""Validate a batch: check its file line by line before any of it runs, then insert the lines."""

import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import gevent
import orjson
import structlog

from access import keys
from access.key_rules import KeyRules
from config.settings import settings
from jobs.batch import lines, ownership
from jobs.batch.lines import LineError, Span
from jobs.batch.ownership import CHUNK_ROWS, OwnedBatch, OwnershipLost
from models.batch import MAX_LINES, Batch, BatchStatus
from models.errors import LikeDoError
from storage import files

log = structlog.get_logger()

#: Problems of one file that are reported; validation stops after so many.
MAX_PROBLEMS = 50


class ValidationReport:
    """The result of validating a file: its lines, or its problems."""

    def __init__(self) -> None:
        #: By `custom_id`, the offset and the length of each line, in order.
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


def validate(owned: OwnedBatch, batch: Batch) -> None:
    """Bring a batch from `validating` to `in_progress` with its lines, or to `failed`."""
    report = ValidationReport()
    try:
        _read(owned, batch, report)
    except LineError as error:
        report.add_problem(error, error.line)
    validating = owned.in_status(BatchStatus.VALIDATING)
    if report.problems:
        log.info("batch.failed", batch=batch.id, problems=len(report.problems))
        problems = orjson.dumps(report.problems).decode()
        ownership.advance(
            validating, status=BatchStatus.FAILED.value, failed_at=time.time(), errors=problems
        )
        return
    # A worker that died while inserting them may have left some.
    while ownership.delete_some_lines(validating):
        pass
    for rows in _rows(batch.id, report):
        ownership.insert_lines(validating, rows)
    log.info("batch.begun", batch=batch.id, lines=len(report.lines))
    ownership.advance(
        validating,
        status=BatchStatus.IN_PROGRESS.value,
        in_progress_at=time.time(),
        total=len(report.lines),
    )


def _read(owned: OwnedBatch, batch: Batch, report: ValidationReport) -> None:
    content = files.content(batch.input_file_id)
    if content is None:
        raise LineError("file_not_found", "The input file is gone.", "input_file_id")
    rules = keys.rules_of(batch.key_id)
    with closing(content[1]) as pieces:
        for span in lines.spans(pieces, settings.max_body_bytes):
            gevent.sleep(0)  # Let other greenlets run.
            if owned.is_stopping():
                raise OwnershipLost
            _add(batch, rules, span, report)
            if len(report.problems) >= MAX_PROBLEMS:
                return
    if not report.lines and not report.problems:
        raise LineError("empty_file", "The input file has no lines.", "input_file_id")


def _add(batch: Batch, rules: KeyRules, span: Span, report: ValidationReport) -> None:
    if len(report.lines) >= MAX_LINES:
        raise LineError(
            "too_many_tasks", f"The input file has more than {MAX_LINES} lines.", "input_file_id"
        )
    try:
        custom_id = lines.check(span.raw, batch.endpoint, batch.kind, rules)
        if custom_id in report.lines:
            raise LineError(
                "duplicate_custom_id",
                f"The custom_id '{custom_id}' is that of another line, too: each needs its own.",
                "custom_id",
            )
    except LikeDoError as error:
        report.add_problem(error, span.number)
    else:
        report.lines[custom_id] = (span.start, len(span.raw))


def _rows(batch_id: str, report: ValidationReport) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of the lines, `CHUNK_ROWS` at a time."""
    rows: list[dict[str, Any]] = []
    for number, (custom_id, (start, length)) in enumerate(report.lines.items(), 1):
        position = {"number": number, "start": start, "length": length}
        rows.append({"batch_id": batch_id, "custom_id": custom_id, **position})
        if len(rows) == CHUNK_ROWS:
            yield rows
            rows = []
    if rows:
        yield rows
