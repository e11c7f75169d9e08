"""What defines a kind of job: how its requests are parsed, priced and run."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from billing.holds import Hold
from billing.pricing import Quote
from config.catalog.model import Plan

R = TypeVar("R")

#: An answer as callers get it: its length in bytes, and the bytes in pieces.
Rendered = tuple[int, Iterator[bytes]]


def _unchanged(body: bytes, base_url: str) -> Rendered:
    return len(body), iter([body])


def _max_running(plan: Plan) -> int:
    return plan.max_running


def _one_credit() -> int:
    return 1


def _no_headers(request: Any, held: Hold) -> dict[str, str]:
    return {}


@dataclass(frozen=True)
class Kind(Generic[R]):
    """A kind of job, for requests of type `R`."""

    #: As in the API, in the database and in the names of queues.
    name: str
    #: Reads a decoded JSON body, of an asynchronous request or another; raises `InvalidRequest`.
    read: Callable[[Any, bool], R]
    #: The field that a body of this kind has, and no body of another kind.
    identified_by: str
    #: Makes a request of a body that was validated before.
    from_validated: Callable[[dict[str, Any]], R]
    #: Returns the candidates that can serve a request; raises if there are none.
    find: Callable[[R], Sequence[Any]]
    #: Returns what a request may cost, over every route and fallback it may take.
    quote: Callable[[R], Quote]
    #: Returns the columns of the job's row that describe the request.
    columns: Callable[[R], dict[str, Any]]
    #: The module of `jobs` whose `run` the worker calls with the job's id. If one module runs jobs
    #: of several kinds, they share the slots of the kind with its name.
    module: str
    #: Returns how many of its jobs one worker runs at once.
    concurrency: Callable[[], int]
    #: Returns how many of its jobs an account on a plan may have queued or running.
    max_running: Callable[[Plan], int] = _max_running
    #: The endpoint of batches whose lines are jobs of this kind, if there can be such batches.
    #: The lines have a queue of their own.
    batch_endpoint: str | None = None
    #: Returns the credits of the cheapest call.
    cheapest: Callable[[], int] = _one_credit
    #: Returns response headers that name limits applied instead of the requested ones.
    applied_headers: Callable[[R, Hold], dict[str, str]] = _no_headers
    #: Renders a job's stored answer; links in it begin with the base URL.
    render: Callable[[bytes, str], Rendered] = _unchanged
    makes_images: bool = False
    #: How long one attempt may take; None: `JOB_TIMEOUT_SECONDS`.
    timeout_seconds: float | None = None
    #: A job whose worker died is run again until it was claimed this often.
    max_attempts: int = 3
