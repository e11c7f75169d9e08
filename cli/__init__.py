"""The command line: `likedo …`."""

from cli.main import main

__all__ = ["main"]
