"""The kinds of jobs: one entry here, and the files of its name. Used by both processes."""

from typing import Any

from jobs.kinds.chat import CHAT
from jobs.kinds.image import BULK_IMAGE, IMAGE
from jobs.kinds.kind import Kind

#: By name, as in the API and in the database.
KINDS: dict[str, Kind[Any]] = {kind.name: kind for kind in (CHAT, IMAGE, BULK_IMAGE)}

#: The names of the kinds whose answers are images.
IMAGE_KINDS = tuple(name for name, kind in KINDS.items() if kind.makes_images)

#: What the name of a queue of batch lines ends with.
LINES = "-lines"


def queue_of(kind: str, batch_id: str | None) -> str:
    """Return the name of the queue of jobs of a `kind`, or of those of them that are lines."""
    return kind if batch_id is None else line_queue_of(kind)


def line_queue_of(kind: str) -> str:
    return f"{kind}{LINES}"


def of_queue(name: str) -> Kind[Any]:
    """Return the kind of the jobs in the queue of that name."""
    return KINDS[name.removesuffix(LINES)]
