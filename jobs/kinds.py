"""The kinds of jobs: their queues, and the function that runs each."""

#: What the name of a queue of batches' lines ends with.
LINES = "-lines"
#: Jobs of a kind are run by the module of its name, but for these.
_RUN_BY = {"batch": "image"}


def queue_of(kind: str, batch_id: str | None) -> str:
    """Return the name of the queue of jobs of a `kind`, or of those of them that are lines."""
    return kind if batch_id is None else line_queue_of(kind)


def line_queue_of(kind: str) -> str:
    return f"{kind}{LINES}"


def kind_of(name: str) -> str:
    """Return the kind of the jobs in the queue of that name."""
    return name.removesuffix(LINES)


def runs_as(kind: str) -> str:
    """Return the kind whose module runs the jobs of a `kind`, and among which they are counted."""
    return _RUN_BY.get(kind, kind)
