"""Logging in every process: one event a line, in colour on a terminal, else as logfmt.

Much of what is logged is others' text: paths, names, providers' errors. None of it can begin a
line, move the cursor or turn the text around.
"""

import logging
import re
import sys
import traceback
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog

from config.settings import settings

#: Control characters, among them those of Unicode that end a line (U+0085, U+2028, U+2029), and
#: what is invisible or changes the direction of text.
_CONTROLS = (
    r"\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\ud800-\udfff\U000e0000-\U000e007f"
)
_CONTROL = re.compile(f"[{_CONTROLS}]")
#: The same without line ends and tabs, which a traceback has.
_CONTROL_WITHIN_LINES = re.compile(f"(?![\n\t])[{_CONTROLS}]")


def escape(text: str, pattern: re.Pattern[str] = _CONTROL) -> str:
    """Return `text` with every control character as Python would write it, such as `\\x1b`."""
    return pattern.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class SafeStream:
    """A stream whose writes never raise, even if its reader is gone.

    Otherwise a write to a dead log collector would raise in the greenlet that logs: leases would no
    longer be renewed, and callers would get a 500.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        #: On a terminal we write control characters ourselves, for colours.
        self.escapes = not stream.isatty()

    def write(self, text: str) -> int:
        # What is not logged, such as the tracebacks that gevent prints, has escaped nothing so far.
        safe = escape(text, _CONTROL_WITHIN_LINES) if self.escapes else text
        with suppress(OSError):
            self.stream.write(safe)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _make_safe() -> None:
    """Replace stdout and stderr by safe streams: gevent, too, reports errors there."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, SafeStream):
            setattr(sys, name, SafeStream(stream))


def escape_values(_: Any, __: str, event: structlog.typing.EventDict) -> Any:
    """Escape what an event says; a processor of structlog."""
    for name, value in event.items():
        if not isinstance(value, bool | int | float | None):
            pattern = _CONTROL_WITHIN_LINES if name == "exception" else _CONTROL
            event[name] = escape(str(value), pattern)
    return event


def _escape_line(_: Any, __: str, line: Any) -> str:
    return escape(line)


class _Record(logging.LogRecord):
    """A library's event, whose text is escaped whichever handler formats it, gunicorn's too."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self.exc_info and self.exc_info[0]:
            # Formatters use this text if it is there.
            self.exc_text = escape("".join(traceback.format_exception(*self.exc_info)))

    def getMessage(self) -> str:
        return escape(super().getMessage())


def _rendering() -> list[structlog.typing.Processor]:
    if sys.stdout.isatty():
        return [escape_values, structlog.dev.ConsoleRenderer(colors=True, pad_event_to=0)]
    return [structlog.processors.LogfmtRenderer(key_order=["level", "event"]), _escape_line]


def configure() -> None:
    """Send structlog and the libraries' logs to standard output, one line each."""
    _make_safe()
    level = logging.getLevelNamesMapping()[settings.log_level]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            *_rendering(),
        ],
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, sys.stdout)),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    logging.setLogRecordFactory(_Record)
    logging.basicConfig(
        stream=sys.stdout,
        level=max(level, logging.WARNING),
        format="%(levelname)s %(name)s %(message)s",
    )
    # RQ sets a level of its own, and logs every pass over its registries.
    logging.getLogger("rq.worker").setLevel(max(level, logging.WARNING))
