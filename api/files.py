"""Files: the input that callers upload for batches, and the output that batches write."""

from contextlib import ExitStack
from typing import Any

import orjson
from flask import Blueprint, Response, request

from access import quota
from api.request import admission, filename, pagination, upload
from api.request.slots import Slots
from api.request.upload import Form, Upload
from models import checks
from models.batch import ExpiresAfter
from models.errors import InvalidRequest, MissingParameter, NotFound
from models.file import File, Purpose
from storage import files

bp = Blueprint("files", __name__)

#: Downloads of one account, and of all, that a web process serves at a time.
MAX_DOWNLOADS, MAX_ALL_DOWNLOADS = 16, 500
downloads = Slots(
    MAX_DOWNLOADS,
    f"Your account has {MAX_DOWNLOADS} downloads under way already. Wait until some have ended.",
    total=MAX_ALL_DOWNLOADS,
)
#: Files in a page: by default, and at most.
MAX_LIMIT = 10_000
#: The form fields that make up the object `expires_after`, with their names in it.
EXPIRES_AFTER = {f"expires_after[{name}]": name for name in ExpiresAfter.model_fields}


@bp.post("/files")
def create_file() -> Response:
    """Store a file of requests for a batch."""
    account_id = admission.caller().account_id
    with ExitStack() as received:
        with admission.counted():
            form = received.enter_context(upload.receive(account_id))
        file, seconds = _checked(form)
        file_id = _save(file, seconds)
    return _answer(as_json(files.show_one(file_id)))


def _save(file: Upload, seconds: int) -> str:
    account_id, size = admission.caller().account_id, file.path.stat().st_size
    check = quota.check_file(account_id, size, admission.plan().max_stored_bytes)
    return files.save(account_id, Purpose.BATCH, file.filename, file.path, seconds, check)


def _checked(form: Form) -> tuple[Upload, int]:
    """Return the file, and the seconds that it is kept; raise what is wrong with the form."""
    for name in ("file", "purpose"):
        if name not in form.files and name not in form.fields:
            raise MissingParameter(f"Missing required parameter: '{name}'.", param=name)
    if form.fields.get("purpose") != Purpose.BATCH:
        raise InvalidRequest(
            "Invalid value for 'purpose': only 'batch' is taken here.", param="purpose"
        )
    file = form.files.get("file")
    if file is None or not file.path.stat().st_size:
        raise InvalidRequest(
            "Invalid value for 'file': it must be a file that is not empty.", param="file"
        )
    return file, _seconds(form)


def _seconds(form: Form) -> int:
    expires_after: dict[str, Any] = {
        name: form.fields[field] for field, name in EXPIRES_AFTER.items() if field in form.fields
    }
    if not expires_after:
        return files.KEPT_SECONDS
    if "seconds" in expires_after:
        text = expires_after["seconds"]
        is_number = text.isascii() and text.isdigit() and len(text) < 10
        expires_after["seconds"] = int(text) if is_number else 0
    example = '{"anchor": "created_at", "seconds": …}'
    return checks.read(ExpiresAfter, expires_after, example).seconds


@bp.get("/files")
def list_files() -> Response:
    """List the caller's files, in the given `order`; newest first by default."""
    account_id = admission.caller().account_id
    limit = pagination.limit(MAX_LIMIT, MAX_LIMIT)
    purpose = request.args.get("purpose")
    after = _after(request.args.get("after"), account_id)
    oldest_first = pagination.one_of("order", ("asc", "desc")) == "asc"
    if purpose is not None and not purpose.isprintable():
        return pagination.page([], limit, as_json)
    rows = files.listing(limit + 1, account_id, purpose, after, oldest_first)
    return pagination.page(rows, limit, as_json)


def _after(file_id: str | None, account_id: int) -> File | None:
    if file_id is None:
        return None
    row = files.find(file_id, account_id)
    if row is None:
        raise InvalidRequest(
            f"Invalid value for 'after': there is no file '{file_id}'.", param="after"
        )
    return row


@bp.get("/files/<file_id>")
def get_file(file_id: str) -> Response:
    """Return one file's record."""
    return _answer(as_json(_own(file_id)))


@bp.get("/files/<file_id>/content")
def get_content(file_id: str) -> Response:
    """Return a file's bytes."""
    row = _own(file_id)
    with ExitStack() as download:
        download.enter_context(downloads.taken(row.account_id))
        content = files.content(row.id)
        if content is None:
            raise NotFound(f"The content of the file '{row.id}' is gone.")
        length, pieces = content
        download.callback(pieces.close)
        response = Response(pieces, content_type="application/octet-stream")
        response.call_on_close(download.pop_all().close)
    response.headers["Content-Length"] = str(length)
    response.headers["Content-Disposition"] = filename.attachment(row.filename)
    return response


@bp.delete("/files/<file_id>")
def delete_file(file_id: str) -> Response:
    """Delete a file that no batch needs any more."""
    if not files.forget(_own(file_id).id, admission.caller().account_id):
        raise _not_found(file_id)
    return _answer({"id": file_id, "object": "file", "deleted": True})


def _own(file_id: str) -> File:
    """Return a file of the caller's account; raise `NotFound` for any other."""
    row = files.find(file_id, admission.caller().account_id)
    if row is None:
        raise _not_found(file_id)
    return row


def _not_found(file_id: str) -> NotFound:
    return NotFound(f"There is no file '{file_id}'.")


def as_json(row: File) -> dict[str, Any]:
    """Return a file as callers see it; times are Unix seconds."""
    return {
        "id": row.id,
        "object": "file",
        "bytes": row.bytes,
        "created_at": int(row.created),
        "expires_at": int(row.expires),
        "filename": row.filename,
        "purpose": row.purpose,
        "status": "processed",
        "status_details": None,
    }


def _answer(content: dict[str, Any]) -> Response:
    return Response(orjson.dumps(content), content_type="application/json")
