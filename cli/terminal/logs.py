"""Where commands log to."""

import sys

import structlog


def to_standard_error() -> None:
    """Leave standard output to what was asked for."""
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
