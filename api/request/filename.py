"""File names, as clients send them with an upload and get them with a download."""

import re
from urllib.parse import quote, unquote

from werkzeug.datastructures import FileStorage
from werkzeug.http import dump_options_header

MAX_LENGTH = 255

#: A parameter of a header, and what the value of `filename*` looks like (RFC 5987).
_PARAMETER = re.compile(r'; *([^\s=;]+) *= *("(?:[^"\\]|\\.)*"|[^;]*)')
_EXTENDED = re.compile(r"(utf-8|iso-8859-1)'[^']*'(\S*)", re.IGNORECASE)


def of_upload(file: FileStorage) -> str:
    """Return the name of a form's file: its `filename*`, or else its `filename`.

    Werkzeug takes whichever comes last, and drops the backslashes of a path.
    """
    header = file.headers.get("Content-Disposition", "")
    parameters = {name.lower(): value.strip() for name, value in _PARAMETER.findall(header)}
    if extended := _EXTENDED.fullmatch(parameters.get("filename*", "")):
        return clean(unquote(extended[2], encoding=extended[1].lower(), errors="replace"))
    plain = parameters.get("filename", "")
    if plain.startswith('"'):
        return clean(re.sub(r'\\(["\\])', r"\1", plain.strip('"')).replace("%22", '"'))
    return clean(plain or file.filename or "")


def clean(name: str) -> str:
    """Return the last part of a path, as a name that is safe in a header and fits the database."""
    printable = "".join(letter for letter in name if letter.isprintable())
    parts = [part.strip() for part in re.split(r"[/\\]", printable)]
    return next((part for part in reversed(parts) if part.strip(".")), "file")[:MAX_LENGTH]


def attachment(name: str) -> str:
    """Return `Content-Disposition` of a download: the name in ASCII, and in full if it differs."""
    full = clean(name)
    options = {"filename": "".join(letter if letter.isascii() else "_" for letter in full)}
    if options["filename"] != full:
        options["filename*"] = f"UTF-8''{quote(full, safe='')}"
    return dump_options_header("attachment", options)
