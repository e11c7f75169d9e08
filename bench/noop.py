"""A job that does nothing, to measure the overhead of RQ's own `SimpleWorker`."""


def run(_: str) -> None:
    """Do nothing."""
