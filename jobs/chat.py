"""Run one chat: ask the providers of its routes, whole or chunk by chunk, and settle."""

from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import gevent
import orjson
import structlog
from rq import Retry

from billing import ledger
from billing.ledger import Answer, Asked, Settled
from config.catalog import catalog
from jobs import queues, rows, sse, streams
from jobs.messages import Ended, Source
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
from routing.attempts import Attempt, Attempts
from routing.routes import Way

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
    asked: Asked = field(init=False)
    #: Each time a provider was asked, by whichever worker.
    trail: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.asked = Asked(trail=self.trail)

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
        running = Running(claim, call, trail=claim.trail)
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
    handed_back = _surely(lambda: rows.hand_back(running.claim.job, running.trail))
    return Retry(max=1) if handed_back else None


def _ask(running: Running, afterwards: ExitStack) -> Answer:
    body = _body(running.claim)
    if body is None:
        raise errors.Unavailable("The request was lost before it could be answered. Try again.")
    running.request = request = ChatRequest.checked(orjson.loads(body))
    if request.stream:
        running.stream = _open_stream(running, afterwards)
    return _first_answer(running, routes.find(request))


def _open_stream(running: Running, afterwards: ExitStack) -> Stream:
    publisher = streams.publisher()
    stream = publisher.open(running.id, running.claim.job.attempt, running.call)
    afterwards.callback(publisher.close, stream)
    if running.request and running.request.cancels_on_disconnect:
        work.expect_listeners(running.id)
    return stream


def _body(claim: Claim) -> bytes | None:
    return work.bodies.get(claim.job.id) or queues.body(claim.job.id, claim.body_at)


def _first_answer(running: Running, ways: list[Way]) -> Answer:
    """Ask along the ways until one gives an answer."""
    attempts = Attempts(
        ways,
        running.call,
        running.trail,
        has_spoken=lambda: bool(running.events),
        told=lambda: _tell_trail(running),
    )
    try:
        return attempts.answer(lambda attempt: _ask_one(running, attempt))
    except errors.ModelGone:
        if ways[0].model.id in catalog.models:
            raise
        # Not an id of ours: the caller named a model that the vendor does not know.
        raise errors.ModelNotFound(
            f"The model '{ways[0].model.id}' does not exist. GET /api/v1/ai/models lists the "
            "models.",
            param="model",
        ) from None


def _tell_trail(running: Running) -> None:
    """Let those who follow the job see what failed, before it has ended."""
    with suppress(errors.Unavailable):  # It is told again when the job ends.
        rows.note_trail(running.claim.job, running.trail)


def _ask_one(running: Running, attempt: Attempt) -> Answer:
    """Ask one provider, once."""
    way = attempt.way
    running.call.asked = True
    running.assembly = Assembly()
    running.asked = Asked(way.provider, way.upstream_model, way.model.price, running.trail)
    completion = _stream(running, attempt) if running.stream else _complete(running, attempt)
    return _answer(running, way, completion)


def _complete(running: Running, attempt: Attempt) -> dict[str, Any]:
    way = attempt.way
    limit = _limit(running, way)
    return get_one(way.provider).complete(
        way.request, way.route, limit, attempt.key.secret, running.call
    )


def _limit(running: Running, way: Way) -> int:
    """Return the most tokens of one choice to ask for: of what was held for, what the model has."""
    most = running.claim.max_tokens
    return min(most, way.route.upstream.max_output_tokens or most)


def _stream(running: Running, attempt: Attempt) -> dict[str, Any]:
    way, stream = attempt.way, running.stream
    assert stream is not None
    stream.source = Source(way.provider, way.upstream_model, len(running.trail))
    running.call.allow(catalog.timeouts.first_token(way.route.upstream.reasoning))
    with closing(
        get_one(way.provider).stream(
            way.request,
            way.route,
            _limit(running, way),
            attempt.key.secret,
            running.call,
        )
    ) as chunks:
        return _relay(chunks, running, attempt, stream)


def _relay(chunks: Any, running: Running, attempt: Attempt, stream: Stream) -> dict[str, Any]:
    """Publish a provider's chunks as they come, and return the completion they make.

    The finish reasons and the usage are not among what is published: they go out when the answer
    has been paid for.
    """
    assert running.request is not None
    model, include_usage = running.request.model, running.request.include_usage
    patience = catalog.timeouts.first_token(attempt.way.route.upstream.reasoning)
    for chunk in chunks:
        running.assembly.add(chunk)
        # While readers are slow, it is not the provider that is waited for.
        running.call.allow(None)
        if _says_something(chunk):
            attempt.goes_well()
            stream.say(sse.chunk(chunk, model, include_usage))
        if _has_token(chunk):
            patience = catalog.timeouts.between_tokens_seconds
        running.call.allow(patience)
    running.call.allow(None)
    # Only what has surely been said is charged.
    stream.flush()
    return running.assembly.completion()


def _has_token(chunk: dict[str, Any]) -> bool:
    """Tell a chunk with a piece of the answer from one that only opens it, and may come at once."""
    deltas = [choice["delta"] for choice in chunk["choices"]]
    return any(value for delta in deltas for name, value in delta.items() if name != "role")


def _says_something(chunk: dict[str, Any]) -> bool:
    return any(choice["finish_reason"] is None for choice in chunk["choices"])


def _answer(running: Running, way: Way, completion: dict[str, Any]) -> Answer:
    assert running.request is not None
    usage = _usage(way.request, completion)
    shown = {"model": running.request.model, "usage": completion.get("usage") or usage.as_json()}
    return Answer(
        completion=completion | shown,
        usage=usage,
        asked=running.asked,
        free=_says_nothing(completion),
        events=running.stream.number if running.stream else None,
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
        Source(running.asked.provider, running.asked.upstream_model, len(running.trail)),
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
