"""Run one chat: ask the providers of its routes, and settle."""

import random
from collections.abc import Callable
from typing import Any, TypeVar

import gevent
import orjson
import structlog
from rq import Retry

from billing import ledger
from billing.ledger import Answer
from config.catalog import Route, catalog
from config.settings import settings
from jobs import queues, rows
from jobs.channel import Ended
from jobs.rows import Claim
from jobs.running import HandedBack, LeaseLost, work
from models import errors
from models.chat import ChatRequest, Usage
from models.job import Status
from providers import get_one, tokens
from providers.http import Call
from routing import routes

T = TypeVar("T")

log = structlog.get_logger()

#: Seconds between tries to store an answer while the database does not answer.
SETTLE_RETRY_SECONDS = (0.1, 0.2, 0.5, 1, 2)


def run(job_id: str) -> Ended | Retry | None:
    """Run a queued chat to its end, and return what its waiters are to hear.

    Returns RQ's `Retry` where the job was handed back and belongs in the queue again; None where
    it was not there to be claimed, or is no longer ours.
    """
    claim = rows.claim(job_id, work.lease) if work.may_claim else None
    if claim is None:
        return None
    with work.calling(job_id) as call:
        return _run(claim, call)


def _run(claim: Claim, call: Call) -> Ended | Retry | None:
    try:
        return _settle(claim, _ask(claim, call))
    except (HandedBack, LeaseLost) as why:
        log.warning("job.handed_back", job=claim.job.id, reason=why.message)
        return Retry(max=1) if _surely(lambda: rows.hand_back(claim.job)) else None
    except errors.JobCancelled as error:
        return _cancel(claim, call, error)
    except errors.LikeDoError as error:
        return _fail(claim, error)
    except Exception:  # One of the outermost doors: a bug must not leave a job unfinished.
        log.exception("job.broke", job=claim.job.id)
        return _fail(claim, errors.InternalError("Something went wrong on our side."))


def _ask(claim: Claim, call: Call) -> Answer:
    body = _body(claim)
    if body is None:
        raise errors.Unavailable("The request was lost before it could be answered. Try again.")
    request = _request(body)
    return _first_answer(request, routes.find(request), claim, call)


def _body(claim: Claim) -> bytes | None:
    return work.bodies.get(claim.job.id) or queues.body(claim.job.id, claim.body_at)


def _request(body: bytes) -> ChatRequest:
    return ChatRequest.checked(orjson.loads(body))


def _first_answer(request: ChatRequest, possible: list[Route], claim: Claim, call: Call) -> Answer:
    """Ask along the routes; one whose model the vendor has retired is skipped and reported."""
    for route in possible:
        try:
            completion = _complete(request, route, claim, call)
        except errors.ModelGone as error:
            log.error("route.model_gone", provider=route.provider, model=route.upstream.id)
            gone = error
        else:
            return _answer(request, route, completion)
    if request.model in catalog.models:
        raise gone
    # Not an id of ours: the caller named a model that the vendor does not know.
    raise errors.ModelNotFound(
        f"The model '{request.model}' does not exist. GET /api/v1/ai/models lists the models.",
        param="model",
    )


def _complete(request: ChatRequest, route: Route, claim: Claim, call: Call) -> dict[str, Any]:
    limit = min(claim.max_tokens, route.upstream.max_output_tokens or claim.max_tokens)
    key = random.choice(settings.keys_of(route.provider) or [""])
    call.asked = True
    return get_one(route.provider).complete(request, route, limit, key, call)


def _answer(request: ChatRequest, route: Route, completion: dict[str, Any]) -> Answer:
    completion["model"] = request.model
    return Answer(
        completion=completion,
        usage=_usage(request, completion),
        provider=route.provider,
        upstream_model=route.upstream.id,
        free=_says_nothing(completion),
    )


def _usage(request: ChatRequest, completion: dict[str, Any]) -> Usage:
    """Return the tokens as the provider reported them; where it did not, as we count them."""
    reported = completion.get("usage")
    if reported:
        return Usage(
            max(0, int(reported.get("prompt_tokens") or 0)),
            max(0, int(reported.get("completion_tokens") or 0)),
        )
    prompt = tokens.count_prompt(request.body)
    return Usage(prompt, tokens.count_answer(completion), estimated=True)


def _says_nothing(completion: dict[str, Any]) -> bool:
    """Tell an answer without completion tokens and without a finish reason: it is free."""
    usage = completion.get("usage") or {}
    finished = any(choice.get("finish_reason") for choice in completion.get("choices", ()))
    return not finished and not usage.get("completion_tokens")


def _settle(claim: Claim, answer: Answer) -> Ended | None:
    settled = _surely(lambda: ledger.settle(claim.job, answer))
    if settled is None:
        log.warning("job.not_ours", job=claim.job.id, attempt=claim.job.attempt)
        return None
    queues.forget_file(claim.job.id, claim.body_at)
    return Ended(
        Status.COMPLETED, answer.provider, settled.charged, settled.available, body=settled.body
    )


def _fail(claim: Claim, error: errors.LikeDoError, status: Status = Status.FAILED) -> Ended | None:
    log.info(
        "job.failed",
        job=claim.job.id,
        code=error.code,
        reason=error.message,
        cause=repr(error.__cause__) if error.__cause__ else None,
    )
    if not _surely(lambda: ledger.fail(claim.job, error, status)):
        return None
    queues.forget_file(claim.job.id, claim.body_at)
    return Ended(status, charged=0, error=error.as_record())


def _cancel(claim: Claim, call: Call, error: errors.JobCancelled) -> Ended | None:
    """End a cancelled job: free where no provider was asked, else for the prompt as counted."""
    if not call.asked:
        return _fail(claim, error, Status.CANCELLED)
    used = Usage(_prompt_tokens(claim), 0, estimated=True)
    settled = _surely(lambda: ledger.settle_cancelled(claim.job, used, error))
    if settled is None:
        return None
    queues.forget_file(claim.job.id, claim.body_at)
    return Ended(
        Status.CANCELLED, None, settled.charged, settled.available, error=error.as_record()
    )


def _prompt_tokens(claim: Claim) -> int:
    """Count the prompt of a job; nothing where its body cannot be read any more."""
    try:
        body = _body(claim)
    except errors.Unavailable:
        return 0
    return tokens.count_prompt(_request(body).body) if body else 0


def _surely(write: Callable[[], T]) -> T:
    """Do what must be stored, again and again while the database does not answer.

    The attempt in every guard makes doing it twice harmless, and doing it too late too.
    """
    tries = iter(SETTLE_RETRY_SECONDS)
    while True:
        try:
            return write()
        except errors.Unavailable as error:
            log.warning("job.settle_waits", reason=error.message)
            gevent.sleep(next(tries, SETTLE_RETRY_SECONDS[-1]))
