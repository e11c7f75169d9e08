"""What a kind of job is: the one place that says how its requests are read, priced and run."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from billing.holds import Hold
from billing.pricing import Quote

R = TypeVar("R")

#: An answer as callers get it: how many bytes, and the bytes, in pieces.
Rendered = tuple[int, Iterator[bytes]]


def _unchanged(body: bytes, address: str) -> Rendered:
    return len(body), iter([body])


def _nothing(request: Any, held: Hold) -> dict[str, str]:
    return {}


@dataclass(frozen=True)
class Kind(Generic[R]):
    """A kind of job, for requests of type `R`."""

    #: As in the API, in the database and in the names of queues.
    name: str
    #: Makes a request of a body that was read before; `R.read` checks one that was not.
    checked: Callable[[dict[str, Any]], R]
    #: Returns what a request may cost, over every route and fallback it may take.
    quote: Callable[[R], Quote]
    #: Returns the columns of the job's row that say what was asked for.
    columns: Callable[[R], dict[str, Any]]
    #: The module of `jobs` whose `run` RQ calls with the job's id. Jobs of several kinds that one
    #: module runs share the slots of the kind with its name.
    module: str
    #: Returns headers that say what was applied in place of what was asked for.
    applied: Callable[[R, Hold], dict[str, str]] = _nothing
    #: Renders the answer that a job keeps; links in it begin with the address.
    render: Callable[[bytes, str], Rendered] = _unchanged
    makes_images: bool = False
    #: Seconds that one attempt may take; None: `JOB_TIMEOUT_SECONDS`.
    seconds: float | None = None
    #: A dead worker's job is tried again until it was begun this often.
    max_attempts: int = 3
