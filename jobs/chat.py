"""Run one chat: ask the providers of its routes, settle, announce."""

import random
from collections.abc import Callable
from typing import Any, TypeVar

import gevent
import orjson
import redis
import structlog
from rq import Retry

from billing import ledger
from billing.ledger import Answer
from config.catalog import Route
from config.connections import connection
from config.settings import settings
from jobs import channel, queues, rows
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


def run(job_id: str) -> Retry | None:
    """Run a queued chat to its end. Nothing happens where it is not there to be claimed.

    Returns RQ's `Retry` where the job was handed back and belongs in the queue again.
    """
    claim = rows.claim(job_id, work.lease) if work.may_claim else None
    if claim is None:
        return None
    with work.calling(job_id) as call:
        return _run(claim, call)


def _run(claim: Claim, call: Call) -> Retry | None:
    try:
        answer = _ask(claim, call)
    except HandedBack:
        return Retry(max=1) if _surely(lambda: rows.hand_back(claim.job)) else None
    except LeaseLost:
        log.warning("job.lease_lost", job=claim.job.id, attempt=claim.job.attempt)
    except errors.LikeDoError as error:
        _fail(claim, error)
    except Exception:  # One of the outermost doors: a bug must not leave a job unfinished.
        log.exception("job.broke", job=claim.job.id)
        _fail(claim, errors.InternalError("Something went wrong on our side."))
    else:
        _settle(claim, answer)
    return None


def _ask(claim: Claim, call: Call) -> Answer:
    body = queues.body(claim.job.id, claim.body_at)
    if body is None:
        raise errors.Unavailable("The request was lost before it could be answered. Try again.")
    request = ChatRequest(orjson.loads(body))
    return _first_answer(request, routes.find(request), claim, call)


def _first_answer(request: ChatRequest, possible: list[Route], claim: Claim, call: Call) -> Answer:
    """Ask along the routes; one whose model the vendor has retired is skipped and reported."""
    gone: errors.ModelGone | None = None
    for route in possible:
        try:
            completion = _complete(request, route, claim, call)
        except errors.ModelGone as error:
            log.error("route.model_gone", provider=route.provider, model=route.upstream.id)
            gone = error
        else:
            return _answer(request, route, completion)
    assert gone is not None
    raise gone


def _complete(request: ChatRequest, route: Route, claim: Claim, call: Call) -> dict[str, Any]:
    limit = min(claim.max_tokens, route.upstream.max_output_tokens or claim.max_tokens)
    key = random.choice(settings.keys_of(route.provider) or [""])
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
    prompt = tokens.count_prompt(request.messages, request.body.get("tools"))
    return Usage(prompt, tokens.count_answer(completion), estimated=True)


def _says_nothing(completion: dict[str, Any]) -> bool:
    """Tell an answer without completion tokens and without a finish reason: it is free."""
    usage = completion.get("usage") or {}
    finished = any(choice.get("finish_reason") for choice in completion.get("choices", ()))
    return not finished and not usage.get("completion_tokens")


def _settle(claim: Claim, answer: Answer) -> None:
    settled = _surely(lambda: ledger.settle(claim.job, answer))
    if settled is None:
        log.warning("job.not_ours", job=claim.job.id, attempt=claim.job.attempt)
        return
    _announce(
        claim,
        Ended(
            Status.COMPLETED,
            answer.provider,
            settled.charged,
            settled.available,
            body=settled.body,
        ),
    )


def _fail(claim: Claim, error: errors.LikeDoError) -> None:
    log.info("job.failed", job=claim.job.id, code=error.code, reason=error.message)
    if _surely(lambda: ledger.fail(claim.job, error)):
        _announce(claim, Ended(Status.FAILED, charged=0, error=error.as_record()))


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


def _announce(claim: Claim, ended: Ended) -> None:
    """Ring the bell, and forget the body of what has ended."""
    try:
        with connection().pipeline(transaction=False) as pipeline:
            pipeline.publish(channel.name(claim.job.id), ended.encode())
            queues.forget_body(pipeline, claim.job.id, claim.body_at)
            pipeline.execute()
    except (redis.RedisError, errors.Unavailable) as error:
        # It is settled; whoever waits looks at the row within seconds.
        log.warning("job.bell_failed", job=claim.job.id, reason=str(error))
