"""Where commands log to."""

import sys


def to_standard_error() -> None:
    """Log to standard error, so that standard output holds only the command's result.

    To be called by every command that loads modules that log.
    """
    import structlog  # Help does without it.

    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
