"""The kinds of jobs and the names of their queues. Used by both processes."""

from typing import Any

from jobs.kinds.chat import CHAT
from jobs.kinds.image import BULK_IMAGE, IMAGE
from jobs.kinds.kind import Kind

#: By name, as in the API and in the database.
KINDS: dict[str, Kind[Any]] = {kind.name: kind for kind in (CHAT, IMAGE, BULK_IMAGE)}

#: The names of the kinds whose answers are images.
IMAGE_KINDS = tuple(name for name, kind in KINDS.items() if kind.makes_images)

#: The kinds of the jobs that a batch's lines become, by the endpoint of the batch.
BY_BATCH_ENDPOINT = {kind.batch_endpoint: kind for kind in KINDS.values() if kind.batch_endpoint}

#: The names of the queues of batch lines end with this.
LINE_SUFFIX = "-lines"


def queue_name(kind: str, batch_id: str | None) -> str:
    """Return the name of the queue for jobs of `kind`; batch lines have queues of their own."""
    return kind if batch_id is None else line_queue_name(kind)


def line_queue_name(kind: str) -> str:
    return f"{kind}{LINE_SUFFIX}"


def queue_names() -> list[str]:
    """Return the names of all queues."""
    return [*KINDS, *(line_queue_name(kind.name) for kind in BY_BATCH_ENDPOINT.values())]


def function_name(kind: str) -> str:
    """Return what RQ's records call the function that runs jobs of `kind`."""
    return f"jobs.{KINDS[kind].module}.run"


def by_queue(name: str) -> Kind[Any]:
    """Return the kind of the jobs in the queue called `name`."""
    return KINDS[name.removesuffix(LINE_SUFFIX)]
