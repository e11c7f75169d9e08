"""A form with a file in it, read as it comes: the file goes to the disk, never whole to memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gevent
from flask import g, request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import FormDataParser

from models.errors import InvalidRequest, RequestTooLarge, UnsupportedMediaType
from models.file import MAX_BYTES, MIB

#: What a form may have beside its file.
MAX_FORM_BYTES = MAX_BYTES + MIB
#: Also what the parser takes in before it has to have made sense of it.
MAX_FIELD_BYTES = 512 * 1024
MAX_PARTS = 20
#: After so many bytes others have their turn: what comes quickly never waits for the network.
TURN_BYTES = MIB


@dataclass(frozen=True)
class Upload:
    """A file of a form: the name it was sent with, and where it is."""

    filename: str
    path: Path


@dataclass(frozen=True)
class Form:
    fields: dict[str, str]
    files: dict[str, Upload]


def check_declared_size() -> None:
    if (request.content_length or 0) > MAX_FORM_BYTES:
        raise _too_large()


def _too_large() -> RequestTooLarge:
    return RequestTooLarge(f"The file is too large: at most {MAX_BYTES} bytes are taken.")


@contextmanager
def uploaded() -> Iterator[Form]:
    """Read the request's form; its files are there for the length of the block.

    Raises `UnsupportedMediaType`, `RequestTooLarge`, or `InvalidRequest` where it cannot be read.
    """
    if request.mimetype != "multipart/form-data":
        raise UnsupportedMediaType(
            "Send a form with the file in it, as 'multipart/form-data' (curl: -F file=@NAME)."
        )
    with TemporaryDirectory(prefix="likedo-") as folder:
        yield _read(Path(folder))


def _read(folder: Path) -> Form:
    files = _Files(folder)
    body = _Body(request.environ["wsgi.input"], request.content_length)
    parser = FormDataParser(files.open, MAX_FIELD_BYTES, silent=False, max_form_parts=MAX_PARTS)
    try:
        _, fields, found = parser.parse(
            body,  # type: ignore[arg-type]  # it is read, and nothing else
            request.mimetype,
            request.content_length,
            request.mimetype_params,
        )
        body.finish()
    except RequestEntityTooLarge:
        raise RequestTooLarge("The form has too much beside its file.") from None
    except ValueError as error:
        body.finish()
        raise InvalidRequest(f"The form cannot be read: {error}.") from None
    finally:
        files.close()
    uploads = {
        name: Upload(_plain(file.filename or ""), files.path_of(file.stream))
        for name, file in found.items()
    }
    return Form(dict(fields.items()), uploads)


def _plain(filename: str) -> str:
    """Return a name as it may stand in a header and in a database."""
    return "".join(letter for letter in filename if letter.isprintable())[:255] or "file"


class _Files:
    """The files of one form, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.opened: list[_File] = []

    def open(self, *_: Any, **__: Any) -> Any:
        file = _File(self.folder / str(len(self.opened)))
        self.opened.append(file)
        return file

    def path_of(self, stream: object) -> Path:
        return next(file.path for file in self.opened if file is stream)

    def close(self) -> None:
        for file in self.opened:
            file.close()


class _File:
    """A file that is being written, of a bounded size."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.left = MAX_BYTES
        self.file = path.open("wb")

    def write(self, data: bytes) -> None:
        self.left -= len(data)
        if self.left < 0:
            raise _too_large()
        self.file.write(data)

    def seek(self, _: int) -> None:
        """Be done: it is read again by its path."""
        self.file.flush()

    def close(self) -> None:
        self.file.close()


class _Body:
    """The request's body as it comes: not too much of it, and not so fast that others wait."""

    def __init__(self, stream: Any, declared: int | None) -> None:
        self.stream = stream
        self.declared = declared
        self.came = 0
        self.turn_ends_at = TURN_BYTES

    def read(self, size: int = -1) -> bytes:
        try:
            data: bytes = self.stream.read(size)
        except (ParseException, OSError) as error:
            raise InvalidRequest(f"The body cannot be read: {error}.") from None
        self.came += len(data)
        if self.came > MAX_FORM_BYTES:
            raise _too_large()
        if self.came >= self.turn_ends_at:
            self.turn_ends_at += TURN_BYTES
            gevent.sleep(0)
        return data

    def finish(self) -> None:
        """Take off the line what follows the form; raise `InvalidRequest` where something lacks."""
        while self.read(TURN_BYTES):
            pass
        g.body_read = True
        if self.declared is not None and self.came < self.declared:
            raise InvalidRequest(
                f"The body ended after {self.came} of the {self.declared} bytes that were "
                "announced."
            )
