"""Images in local storage, served to anyone who has their URL, which cannot be guessed."""

import re
import time
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, request, send_file
from werkzeug.exceptions import RequestedRangeNotSatisfiable

import storage
from api.errors import respond
from api.request.slots import Slots
from config.settings import settings
from models.errors import InvalidRequest, NotFound, Overloaded
from models.media import EXTENSIONS
from storage.local import Local

bp = Blueprint("media", __name__)

#: Exactly the names that `models.media.make_name` makes.
_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,50}}\.({'|'.join(EXTENSIONS.values())})", re.ASCII)
_ONE_RANGE = re.compile(r"bytes=(\d+-\d*|-\d+)", re.ASCII)
_TYPES = {ending: media_type for media_type, ending in EXTENSIONS.items()}

#: Downloads that a web process serves at a time. They have no account.
downloads = Slots(500, "Too many images are being downloaded. Try again in a moment.")
_ANYBODY = 0

YEAR_SECONDS = 365 * 24 * 3600
DAY_SECONDS = 24 * 3600

#: Any page may show and read an image; whatever is in the image, it can do nothing to any page,
#: wherever it is opened.
HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
}


@bp.get("/media/<name>")
def get_media(name: str) -> Response:
    """Return an image, or a range of its bytes."""
    path = _find(name)
    if path is None:
        raise NotFound("There is no image at this address, or no longer.")
    try:
        return _send(path, conditional=True)
    except FileNotFoundError:
        raise NotFound("There is no image at this address any more.") from None
    except RequestedRangeNotSatisfiable as error:
        if _ONE_RANGE.fullmatch(request.headers["Range"]):
            return _out_of_range(error)
        # Several ranges, or none that can be read: RFC 9110 allows the whole image as answer.
        return _send(path, conditional=False)


@bp.after_request
def _add_headers(response: Response) -> Response:
    response.headers.update(HEADERS)
    return response


def _find(name: str) -> Path | None:
    backend = storage.backend()
    if not isinstance(backend, Local) or not _NAME.fullmatch(name):
        return None
    return backend.find(f"media/{name}")


def _send(path: Path, conditional: bool) -> Response:
    """Return the file at `path`, sent in pieces; 304 if `conditional` and it did not change."""
    response = send_file(
        path, mimetype=_TYPES[path.suffix[1:]], conditional=conditional, etag=path.stem
    )
    _hold_slot(response)
    assert response.last_modified is not None
    seconds = _fresh_seconds(response.last_modified.timestamp())
    response.headers["Cache-Control"] = f"public, max-age={seconds}, immutable"
    return response


def _hold_slot(response: Response) -> None:
    """Have one of the downloads' slots until the file is closed; raise `Overloaded`."""
    file: Any = response.response
    close_file = file.close
    try:
        give_back = downloads.take(_ANYBODY)
    except Overloaded:
        close_file()
        raise

    def close() -> None:
        give_back()
        close_file()

    # The server is given the file itself to send, and closes that, not the response.
    file.close = close


def _fresh_seconds(saved_at: float) -> int:
    """Return how long caches may keep a copy of a file: until it is deleted here."""
    expires = saved_at + settings.media_ttl_days * DAY_SECONDS
    return int(min(max(0, expires - time.time()), YEAR_SECONDS))


def _out_of_range(error: RequestedRangeNotSatisfiable) -> Response:
    response = respond(InvalidRequest("The image has no such bytes; see Content-Range."))
    response.status_code = 416
    for name, value in error.get_headers():
        if name.lower() == "content-range":
            response.headers[name] = value
    return response
