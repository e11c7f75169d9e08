"""Run one chat: ask the providers of its routes, whole or chunk by chunk, and settle."""

import random
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any, TypeVar

import gevent
import orjson
import structlog
from rq import Retry

from billing import ledger
from billing.ledger import Answer, Asked, Settled
from config.catalog import Route, catalog
from config.settings import settings
from jobs import queues, rows, sse, streams
from jobs.messages import Ended
from jobs.rows import Claim
from jobs.running import HandedBack, LeaseLost, Unheard, work
from jobs.streams import Stream
from models import errors
from models.chat import ChatRequest, Usage
from models.job import Status
from providers import get_one, tokens
from providers.chunks import Assembly
from providers.http import Call
from routing import routes

T = TypeVar("T")

log = structlog.get_logger()

#: Seconds between tries to store an answer while the database does not answer.
SETTLE_RETRY_SECONDS = (0.1, 0.2, 0.5, 1, 2)


@dataclass
class Running:
    """A job while it runs; of one that streams, what it has said so far."""

    claim: Claim
    call: Call
    request: ChatRequest | None = None
    stream: Stream | None = None
    assembly: Assembly = field(default_factory=Assembly)
    #: Who was asked last.
    asked: Asked = ledger.NOBODY

    @property
    def id(self) -> str:
        return self.claim.job.id

    @property
    def events(self) -> int | None:
        """The number of the stream's last event; None where nothing was said.

        Of what was said something may have reached a client: then nobody else can run the job.
        """
        return (self.stream.number or None) if self.stream else None


def run(job_id: str) -> Ended | Retry | None:
    """Run a queued chat to its end, and return what its waiters are to hear.

    Returns RQ's `Retry` where the job was handed back and belongs in the queue again; None where
    it was not there to be claimed, or is no longer ours.
    """
    claim = rows.claim(job_id, work.lease) if work.may_claim else None
    if claim is None:
        return None
    with work.calling(job_id) as call, ExitStack() as afterwards:
        running = Running(claim, call)
        try:
            return _run(running, afterwards)
        except Exception:  # One of the outermost doors: a bug must not leave a job unfinished.
            log.exception("job.broke", job=job_id)
            return _fail(running, errors.InternalError("Something went wrong on our side."))


def _run(running: Running, afterwards: ExitStack) -> Ended | Retry | None:
    try:
        return _settle(running, _ask(running, afterwards))
    except (HandedBack, LeaseLost) as why:
        return _hand_back(running, why)
    except Unheard as why:
        return _fail(running, errors.JobCancelled(why.message), Status.CANCELLED)
    except errors.JobCancelled as error:
        return _cancel(running, error)
    except errors.LikeDoError as error:
        return _fail(running, error)


def _hand_back(running: Running, why: HandedBack | LeaseLost) -> Ended | Retry | None:
    log.warning("job.handed_back", job=running.id, reason=why.message)
    if running.events:
        return _fail(running, errors.Unavailable(streams.BROKEN_OFF))
    return Retry(max=1) if _surely(lambda: rows.hand_back(running.claim.job)) else None


def _ask(running: Running, afterwards: ExitStack) -> Answer:
    body = _body(running.claim)
    if body is None:
        raise errors.Unavailable("The request was lost before it could be answered. Try again.")
    running.request = request = ChatRequest.checked(orjson.loads(body))
    if request.stream:
        running.stream = _open_stream(running, afterwards)
    return _first_answer(request, routes.find(request), running)


def _open_stream(running: Running, afterwards: ExitStack) -> Stream:
    publisher = streams.publisher()
    stream = publisher.open(running.id, running.claim.job.attempt, running.call)
    afterwards.callback(publisher.close, stream)
    if running.request and running.request.cancels_on_disconnect:
        work.expect_listeners(running.id)
    return stream


def _body(claim: Claim) -> bytes | None:
    return work.bodies.get(claim.job.id) or queues.body(claim.job.id, claim.body_at)


def _first_answer(request: ChatRequest, possible: list[Route], running: Running) -> Answer:
    """Ask along the routes; one whose model the vendor has retired is skipped and reported."""
    for route in possible:
        try:
            completion = _complete(request, route, running)
        except errors.ModelGone as error:
            log.error("route.model_gone", provider=route.provider, model=route.upstream.id)
            gone = error
        else:
            return _answer(request, route, completion, running.stream)
    if request.model in catalog.models:
        raise gone
    # Not an id of ours: the caller named a model that the vendor does not know.
    raise errors.ModelNotFound(
        f"The model '{request.model}' does not exist. GET /api/v1/ai/models lists the models.",
        param="model",
    )


def _complete(request: ChatRequest, route: Route, running: Running) -> dict[str, Any]:
    most = running.claim.max_tokens
    limit = min(most, route.upstream.max_output_tokens or most)
    key = random.choice(settings.keys_of(route.provider) or [""])
    provider = get_one(route.provider)
    running.call.asked = True
    running.asked = Asked(route.provider, route.upstream.id)
    if running.stream is None:
        return provider.complete(request, route, limit, key, running.call)
    running.stream.provider = route.provider
    with closing(provider.stream(request, route, limit, key, running.call)) as chunks:
        return _relay(chunks, request, running, running.stream)


def _relay(chunks: Any, request: ChatRequest, running: Running, stream: Stream) -> dict[str, Any]:
    """Publish a provider's chunks as they come, and return the completion they make.

    The finish reasons and the usage are not among what is published: they go out when the answer
    has been paid for.
    """
    for chunk in chunks:
        running.assembly.add(chunk)
        if _says_something(chunk):
            stream.say(sse.chunk(chunk, request.model, request.include_usage))
    # Only what has surely been said is charged.
    stream.flush()
    return running.assembly.completion()


def _says_something(chunk: dict[str, Any]) -> bool:
    return any(choice["finish_reason"] is None for choice in chunk["choices"])


def _answer(
    request: ChatRequest, route: Route, completion: dict[str, Any], stream: Stream | None
) -> Answer:
    free = _says_nothing(completion)
    usage = _usage(request, completion)
    shown = {"model": request.model, "usage": completion.get("usage") or usage.as_json()}
    return Answer(
        completion=completion | shown,
        usage=usage,
        provider=route.provider,
        upstream_model=route.upstream.id,
        free=free,
        events=stream.number if stream else None,
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


def _settle(running: Running, answer: Answer) -> Ended | None:
    settled = _surely(lambda: ledger.settle(running.claim.job, answer))
    if settled is None:
        log.warning("job.not_ours", job=running.id, attempt=running.claim.job.attempt)
        return None
    tail = _tail(running, settled) if running.stream else None
    return _ended(running, Status.COMPLETED, settled, tail=tail)


def _tail(running: Running, settled: Settled) -> list[bytes]:
    assert running.request is not None
    return sse.tail(orjson.loads(settled.body), running.request.include_usage)


def _fail(
    running: Running, error: errors.LikeDoError, status: Status = Status.FAILED
) -> Ended | None:
    log.info(
        "job.failed",
        job=running.id,
        code=error.code,
        reason=error.message,
        cause=repr(error.__cause__) if error.__cause__ else None,
    )
    settled = _surely(
        lambda: ledger.fail(running.claim.job, error, running.asked, status, running.events)
    )
    if settled is None:
        return None
    return _ended(running, status, settled, error)


def _cancel(running: Running, error: errors.JobCancelled) -> Ended | None:
    """End a cancelled job: free where no provider was asked, else charged for what it used."""
    if not running.call.asked:
        return _fail(running, error, Status.CANCELLED)
    used = _used(running)
    settled = _surely(
        lambda: ledger.settle_cancelled(
            running.claim.job, used, error, running.asked, running.events
        )
    )
    if settled is None:
        return None
    return _ended(running, Status.CANCELLED, settled, error)


def _used(running: Running) -> Usage:
    """Return what a cancelled job used: the prompt as counted, and what was produced."""
    assert running.request is not None  # It was asked for.
    produced = running.assembly.completion()
    if produced.get("usage"):
        return _usage(running.request, produced)
    prompt = tokens.count_prompt(running.request.body)
    return Usage(prompt, tokens.count_answer(produced), estimated=True)


def _ended(
    running: Running,
    status: Status,
    settled: Settled,
    error: errors.LikeDoError | None = None,
    tail: list[bytes] | None = None,
) -> Ended:
    """Return how a job ended, with the last events of its stream where that had begun."""
    queues.forget_file(running.id, running.claim.body_at)
    if error is not None and running.events:
        tail = [sse.error(error)]
    ends, whole = running.stream.end(tail) if running.stream and tail else (None, None)
    return Ended(
        status,
        running.asked.provider,
        settled.charged,
        settled.available,
        error.as_record() if error else None,
        running.stream.number if running.stream and tail else None,
        body=settled.body if not running.stream else None,
        tail=ends,
        whole=whole,
    )


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
