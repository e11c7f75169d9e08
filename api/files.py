"""Files for batches, and those that batches leave."""

from typing import Any

import orjson
from flask import Blueprint, Response, request
from sqlalchemy import Row

from api.request import admission, pagination
from api.request import upload as request_upload
from api.request.upload import Form, Upload
from models import checks
from models.batch import ExpiresAfter
from models.errors import InvalidRequest, MissingParameter, NotFound
from models.file import Purpose
from storage import files

bp = Blueprint("files", __name__)

#: Files in a list, unless the caller says how many, and at most.
MAX_LISTED = 10_000
#: How a form writes the fields of an object.
EXPIRES_AFTER = {f"expires_after[{name}]": name for name in ExpiresAfter.model_fields}


@bp.post("/files")
def create_file() -> Response:
    """Keep a file of requests for a batch."""
    admission.peek()
    with request_upload.uploaded() as form:
        admission.hit()
        upload, seconds = _checked(form)
        caller = admission.caller()
        file_id = files.save(
            caller.account_id, Purpose.BATCH, upload.filename, upload.path, seconds
        )
    return _answer(as_json(files.show_one(file_id)))


def _checked(form: Form) -> tuple[Upload, int]:
    """Return the file, and for how long it is kept; raise what is wrong with the form."""
    for name in ("file", "purpose"):
        if name not in form.files and name not in form.fields:
            raise MissingParameter(f"Missing required parameter: '{name}'.", param=name)
    if form.fields.get("purpose") != Purpose.BATCH:
        raise InvalidRequest(
            "Invalid value for 'purpose': only 'batch' is taken here.", param="purpose"
        )
    upload = form.files.get("file")
    if upload is None or not upload.path.stat().st_size:
        raise InvalidRequest(
            "Invalid value for 'file': it must be a file that is not empty.", param="file"
        )
    return upload, _seconds(form)


def _seconds(form: Form) -> int:
    said = {
        short: form.fields[name] for name, short in EXPIRES_AFTER.items() if name in form.fields
    }
    if not said:
        return files.KEPT_SECONDS
    seconds = said.get("seconds", "")
    whole = int(seconds) if seconds.isascii() and seconds.isdigit() and len(seconds) < 10 else 0
    read = said | ({"seconds": whole} if "seconds" in said else {})
    return checks.read(ExpiresAfter, read, '{"anchor": "created_at", "seconds": …}').seconds


@bp.get("/files")
def list_files() -> Response:
    """List the caller's files, the newest first unless `order` says otherwise."""
    account_id = admission.caller().account_id
    limit = pagination.limit(MAX_LISTED, MAX_LISTED)
    purpose = request.args.get("purpose")
    after = _after(request.args.get("after"), account_id)
    oldest_first = pagination.one_of("order", ("asc", "desc")) == "asc"
    if purpose is not None and not purpose.isprintable():
        return pagination.page([], limit, as_json)
    found = files.listing(limit + 1, account_id, purpose, after, oldest_first)
    return pagination.page(found, limit, as_json)


def _after(file_id: str | None, account_id: int) -> Row[Any] | None:
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
    """Answer what is known of a file."""
    return _answer(as_json(_own(file_id)))


@bp.get("/files/<file_id>/content")
def get_content(file_id: str) -> Response:
    """Answer a file's bytes."""
    row = _own(file_id)
    content = files.content(row.id)
    if content is None:
        raise NotFound(f"The content of the file '{row.id}' is gone.")
    length, pieces = content
    response = Response(pieces, content_type="application/octet-stream")
    response.headers["Content-Length"] = str(length)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers.set("Content-Disposition", "attachment", filename=row.filename)
    response.call_on_close(pieces.close)
    return response


@bp.delete("/files/<file_id>")
def delete_file(file_id: str) -> Response:
    """Delete a file that no batch needs any more."""
    if not files.forget(_own(file_id).id, admission.caller().account_id):
        raise _not_there(file_id)
    return _answer({"id": file_id, "object": "file", "deleted": True})


def _own(file_id: str) -> Row[Any]:
    """Return a file of the caller's account; raise `NotFound` for any other."""
    row = files.find(file_id, admission.caller().account_id)
    if row is None:
        raise _not_there(file_id)
    return row


def _not_there(file_id: str) -> NotFound:
    return NotFound(f"There is no file '{file_id}'.")


def as_json(row: Row[Any]) -> dict[str, Any]:
    """Return a file as callers see it."""
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
