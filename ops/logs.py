"""How every process logs: one event a line, as words for people or JSON for machines."""

import logging
import sys

import structlog

from config.settings import settings


def configure() -> None:
    """Send structlog and the libraries' logs to standard output, one line each."""
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
