"""Submitting a job: detect retries, admit, hold, enqueue, answer."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from flask import Response, g

from access import quota
from api.request import admission, idempotency, prefer
from api.request import body as request_body
from api.response import job, replay
from api.response.listening import Wait, listening
from api.server import client
from api.server.client import ClientDisconnected
from billing.holds import ExistingJob
from billing.pricing import Quote
from jobs.kinds import KINDS
from jobs.lifecycle import bodies, new
from jobs.webhook.receiver import check_url
from models.errors import InvalidRequest

MAX_URL_CHARACTERS = 2000


class Request(Protocol):
    """A request that was read."""

    @property
    def body(self) -> dict[str, Any]: ...

    @property
    def kind(self) -> str:
        """The name of the kind of job that it becomes."""

    @property
    def model(self) -> str: ...

    @property
    def fallbacks(self) -> list[str]: ...


R = TypeVar("R", bound=Request)


@dataclass(frozen=True)
class Submitted:
    """A request that has become a job."""

    job_id: str
    #: None if the caller is to come back for the answer.
    wait: Wait | None


def create(read: Callable[[Any], R], answer: Callable[[R, Wait], Response]) -> Response:
    """Make the request a job, and respond with its answer, or with 202 and the job itself.

    `read` makes a request of the decoded JSON, `answer` responds to a caller that waits.
    """
    body = admission.read_body()
    if (replayed := replay.answer_retry(body)) is not None:
        return replayed
    with ExitStack() as waiting:
        with admission.admission_slots:
            admission.hit()
            request = read(admission.parse(body))
            submitted = _submit(request, body, waiting)
        # Callers that wait for their jobs must not keep others from being admitted.
        if isinstance(submitted, ExistingJob):
            return replay.answer_existing(submitted.job_id, body)
        if submitted.wait is None:
            return job.accepted(submitted.job_id)
        return answer(request, submitted.wait)


def is_asynchronous(body: dict[str, Any]) -> bool:
    """Tell whether a request asks for a job, not its answer; raise if its webhook is wrong."""
    # In image requests, `background` may also be a string, with another meaning.
    asynchronous = body.get("background") is True or prefer.respond_async()
    if body.get("webhook_url") is not None:
        _check_webhook(body["webhook_url"], asynchronous)
    return asynchronous


def _check_webhook(url: str, asynchronous: bool) -> None:
    if not asynchronous:
        raise InvalidRequest(
            "'webhook_url' is for asynchronous requests: send \"background\": true with it.",
            param="webhook_url",
        )
    check_url(url)
    if len(url) > MAX_URL_CHARACTERS:
        raise InvalidRequest(
            f"The webhook's URL is too long: at most {MAX_URL_CHARACTERS} characters are taken.",
            param="webhook_url",
        )


def _submit(request: Request, body: bytes, waiting: ExitStack) -> Submitted | ExistingJob:
    """Listen (until `waiting` ends), hold, enqueue: in this order, so that no answer is missed.

    Returns the job that a request with the same `Idempotency-Key` made a moment ago, if there is
    one. Raises `ModelNotAllowed`, and what `holds.hold` does.
    """
    kind = KINDS[request.kind]
    asynchronous = is_asynchronous(request.body)
    admission.caller().rules.check_request(request)
    quote = kind.quote(request)
    row = _row(request, quote, body, asynchronous)
    if client.current().is_disconnected():
        raise ClientDisconnected
    wait = None if asynchronous else waiting.enter_context(listening(row["id"]))
    max_running = kind.max_running(admission.plan())
    check = _check_quota(body) if asynchronous else None
    held = new.hold(row, body, quote, max_running, idempotency.key_digest(), check)
    if isinstance(held, ExistingJob):
        waiting.close()  # There will be no job of this id.
        admission.take_hit_back()
        return held
    # Only now is there such a job, so a request refused before does not name one.
    g.job_headers = {"x-job-id": row["id"], **kind.applied_headers(request, held)}
    with new.released_on_failure(row):
        if wait is not None:
            wait.wait_until_confirmed()
        new.enqueue(row, body, held)
    return Submitted(row["id"], wait)


def _check_quota(body: bytes) -> quota.Check:
    plan = admission.plan()
    return quota.check(admission.caller().account_id, len(body), plan.max_stored_bytes)


def _row(request: Request, quote: Quote, body: bytes, asynchronous: bool) -> dict[str, Any]:
    caller = admission.caller()
    row = new.row(
        KINDS[request.kind],
        request,
        quote,
        account_id=caller.account_id,
        key_id=caller.key_id,
        body_bytes=len(body),
        body_at=bodies.choose_location(body, outlives_redis=asynchronous),
        asynchronous=asynchronous,
        fingerprint=request_body.fingerprint(),
        is_idempotent=idempotency.key_digest() is not None,
        webhook_url=request.body.get("webhook_url"),
    )
    return row | {"cancel_on_disconnect": row["cancel_on_disconnect"] and not asynchronous}
