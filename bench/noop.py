"""The least an RQ job costs: a job that does nothing, for RQ's own SimpleWorker."""


def run(_: str) -> None:
    """Do nothing."""
