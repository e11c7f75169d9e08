"""How every process logs: one event a line, as words for people or JSON for machines."""

import logging
import sys
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog

from config.settings import settings


class SafeStream:
    """A stream whose reader may leave, which is no reason for a line of work to end.

    Where whoever collects the log is gone, writing raises, in whatever greenlet had something to
    say: leases would not be renewed any more, and callers would get a 500.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _make_safe() -> None:
    """Put what cannot break where everybody writes: gevent too tells of errors there."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, SafeStream):
            setattr(sys, name, SafeStream(stream))


def configure() -> None:
    """Send structlog and the libraries' logs to standard output, one line each."""
    _make_safe()
    level = logging.getLevelNamesMapping()[settings.log_level]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=True, pad_event_to=0)
        if sys.stdout.isatty()
        else structlog.processors.LogfmtRenderer(key_order=["level", "event"])
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, sys.stdout)),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(
        stream=sys.stdout,
        level=max(level, logging.WARNING),
        format="%(levelname)s %(name)s %(message)s",
    )
    # RQ sets a level of its own, and tells of every pass over its registries.
    logging.getLogger("rq.worker").setLevel(max(level, logging.WARNING))
