"""The log of commands."""

import sys


def to_standard_error() -> None:
    """Log to standard error, so that standard output holds only the command's result.

    Every command that loads modules that log must call it.
    """
    import structlog  # Not needed for help.

    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
