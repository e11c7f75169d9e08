"""The log of commands."""

import sys


def to_standard_error() -> None:
    """Log to standard error, so that standard output holds only the command's result.

    Every command that loads modules that log must call it.
    """
    import structlog  # Not needed for help.

    from ops.logs import escape_values

    *others, renderer = structlog.get_config()["processors"]
    if escape_values not in others:
        structlog.configure([*others, escape_values, renderer])
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
