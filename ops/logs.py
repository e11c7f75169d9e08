"""Logging in every process: one event a line, in colour on a terminal, else as logfmt."""

import logging
import sys
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog

from config.settings import settings


class SafeStream:
    """A stream whose writes never raise, even if its reader is gone.

    Otherwise a write to a dead log collector would raise in the greenlet that logs: leases would no
    longer be renewed, and callers would get a 500.
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
    """Replace stdout and stderr by safe streams: gevent, too, reports errors there."""
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
    # RQ sets a level of its own, and logs every pass over its registries.
    logging.getLogger("rq.worker").setLevel(max(level, logging.WARNING))
