"""A multipart form read as it arrives: files go to disk and are never held in memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flask import request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import FormDataParser

from api.request import body, filename
from api.request.spool import Share, open_bodies, share
from api.server.body import RequestBody
from config.settings import settings
from models.errors import InvalidRequest, RequestTooLarge, UnsupportedMediaType
from models.file import MAX_BYTES, MIB

#: Of a whole form: its file, and what may stand beside it.
MAX_FORM_BYTES = MAX_BYTES + MIB
#: Of a field; also the most that the parser buffers before it can make sense of it.
MAX_FIELD_BYTES = 512 * 1024
MAX_PARTS = 20


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
def receive(account_id: int) -> Iterator[Form]:
    """Read the request's form; its files exist until the block ends.

    Raises `UnsupportedMediaType`, `RequestTooLarge`, `RequestTimeout`, `Overloaded` if the account
    is sending too many bodies, or `InvalidRequest` if it cannot be read.
    """
    if request.mimetype != "multipart/form-data":
        raise UnsupportedMediaType(
            "Send a form with the file in it, as 'multipart/form-data' (curl: -F file=@NAME)."
        )
    with share(account_id) as on_disk, TemporaryDirectory(prefix="likedo-") as folder:
        with open_bodies.taken(account_id):
            form = _read(_Files(Path(folder), on_disk))
        yield form


def _read(files: "_Files") -> Form:
    stream = request.environ["wsgi.input"]
    if isinstance(stream, RequestBody):
        stream.max_seconds = settings.max_upload_seconds
    form = _Body(stream)
    parser = FormDataParser(files.open, MAX_FIELD_BYTES, silent=False, max_form_parts=MAX_PARTS)
    try:
        _, fields, parsed_files = parser.parse(
            form,  # type: ignore[arg-type]  # The parser only calls `read`.
            request.mimetype,
            request.content_length,
            request.mimetype_params,
        )
        form.finish()
    except RequestEntityTooLarge:
        raise RequestTooLarge("The form has too much beside its file.") from None
    except ValueError as error:
        form.finish()
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

    def __init__(self, folder: Path, on_disk: Share) -> None:
        self.folder, self.on_disk = folder, on_disk
        self.opened: list[_File] = []

    def open(self, *_: Any, **__: Any) -> Any:
        file = _File(self.folder / str(len(self.opened)), self.on_disk)
        self.opened.append(file)
        return file

    def path_of(self, stream: object) -> Path:
        return next(file.path for file in self.opened if file is stream)

    def close(self) -> None:
        for file in self.opened:
            file.close()


class _File:
    """A file being written, with a limited size."""

    def __init__(self, path: Path, on_disk: Share) -> None:
        self.path, self.on_disk = path, on_disk
        self.bytes_left = MAX_BYTES
        self.file = path.open("wb")

    def write(self, data: bytes) -> None:
        self.bytes_left -= len(data)
        if self.bytes_left < 0:
            raise _too_large()
        self.on_disk.add(len(data))
        self.file.write(data)

    def seek(self, _: int) -> None:
        """Flush: the parser rewinds a complete file, which is then read by its path."""
        self.file.flush()

    def close(self) -> None:
        self.file.close()


class _Body:
    """The request's body as it arrives, with a limited size."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.received = 0

    def read(self, size: int) -> bytes:
        data = body.read_piece(self.stream, size)
        self.received += len(data)
        if self.received > MAX_FORM_BYTES:
            raise _too_large()
        return data

    def finish(self) -> None:
        """Discard what follows the form; raise `InvalidRequest` if the body is incomplete."""
        while self.read(body.PIECE_BYTES):
            pass
        body.check_complete(self.received)
