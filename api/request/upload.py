"""A multipart form read as it arrives: files go to disk and are never held in memory."""

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

from api.request import filename
from models.errors import InvalidRequest, RequestTooLarge, UnsupportedMediaType
from models.file import MAX_BYTES, MIB

#: Of a whole form: its file, and what may stand beside it.
MAX_FORM_BYTES = MAX_BYTES + MIB
#: Of a field; also the most that the parser buffers before it can make sense of it.
MAX_FIELD_BYTES = 512 * 1024
MAX_PARTS = 20
#: Other greenlets run after each so many bytes: a fast upload never waits for the network.
YIELD_BYTES = MIB


@dataclass(frozen=True)
class Upload:
    """A file of a form: the name it was sent with, and its path on disk."""

    filename: str
    path: Path


@dataclass(frozen=True)
class Form:
    """A form's text fields and its files, by name."""

    fields: dict[str, str]
    files: dict[str, Upload]


def check_declared_size() -> None:
    """Raise `RequestTooLarge` if the request's declared size is over the limit."""
    if (request.content_length or 0) > MAX_FORM_BYTES:
        raise _too_large()


def _too_large() -> RequestTooLarge:
    return RequestTooLarge(f"The file is too large: at most {MAX_BYTES} bytes are taken.")


@contextmanager
def receive() -> Iterator[Form]:
    """Read the request's form; its files exist until the block ends.

    Raises `UnsupportedMediaType`, `RequestTooLarge`, or `InvalidRequest` if it cannot be read.
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
        _, fields, parsed_files = parser.parse(
            body,  # type: ignore[arg-type]  # The parser only calls `read`.
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
        name: Upload(filename.of_upload(file), files.path_of(file.stream))
        for name, file in parsed_files.items()
    }
    return Form(dict(fields.items()), uploads)


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
    """A file being written, with a limited size."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes_left = MAX_BYTES
        self.file = path.open("wb")

    def write(self, data: bytes) -> None:
        self.bytes_left -= len(data)
        if self.bytes_left < 0:
            raise _too_large()
        self.file.write(data)

    def seek(self, _: int) -> None:
        """Flush: the parser rewinds a complete file, which is then read by its path."""
        self.file.flush()

    def close(self) -> None:
        self.file.close()


class _Body:
    """The request's body as it arrives, with a limited size, yielding to other greenlets."""

    def __init__(self, stream: Any, declared: int | None) -> None:
        self.stream = stream
        self.declared = declared
        self.received = 0
        self.yields_at = YIELD_BYTES

    def read(self, size: int = -1) -> bytes:
        try:
            data: bytes = self.stream.read(size)
        except (ParseException, OSError) as error:
            raise InvalidRequest(f"The body cannot be read: {error}.") from None
        self.received += len(data)
        if self.received > MAX_FORM_BYTES:
            raise _too_large()
        if self.received >= self.yields_at:
            self.yields_at += YIELD_BYTES
            gevent.sleep(0)
        return data

    def finish(self) -> None:
        """Discard what follows the form; raise `InvalidRequest` if the body is incomplete."""
        while self.read(YIELD_BYTES):
            pass
        g.body_read = True
        if self.declared is not None and self.received < self.declared:
            raise InvalidRequest(
                f"The body ended after {self.received} of the {self.declared} bytes that were "
                "announced."
            )
