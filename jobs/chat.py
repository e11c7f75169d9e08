"""Run one chat: ask the providers of its routes, whole or chunk by chunk, and settle."""

from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
from rq import Retry

from billing.outcomes import ChatOutcome, Settled, UpstreamAttribution
from config.catalog.load import catalog
from jobs.lifecycle import store
from jobs.streaming import sse
from jobs.streaming.messages import Ended, Source
from jobs.worker import publisher as worker_publisher
from jobs.worker.in_flight import this_worker
from jobs.worker.publisher import Stream
from jobs.worker.run_job import RunningJob, run_to_end
from models.chat import ChatRequest, Usage
from models.errors import ModelGone, ModelNotFound, Unavailable
from providers.wire.chunks import Assembly
from routing import candidates
from routing.attempts import Attempt, Attempts
from routing.candidates import ChatCandidate
from tokens import count


@dataclass
class RunningChat(RunningJob):
    """A chat while it runs; of one that streams, what it has said so far."""

    request: ChatRequest | None = None
    assembly: Assembly = field(default_factory=Assembly)

    def used(self) -> ChatOutcome:
        """Return what a cancelled job used: the prompt as counted, and what was produced."""
        assert self.request is not None  # It was asked for.
        produced = self.assembly.completion()
        if produced.get("usage"):
            usage = _usage(self.request, produced)
        else:
            prompt = count.count_prompt(self.request.body)
            usage = Usage(prompt, count.count_answer(produced), estimated=True)
        return ChatOutcome({}, usage, self.asked, events=self.events)

    def tail(self, settled: Settled) -> list[bytes] | None:
        if self.stream is None:
            return None
        assert self.request is not None
        return sse.tail(orjson.loads(settled.body), self.request.include_usage)


def run(job_id: str) -> Ended | Retry | None:
    """Run a queued chat to its end, and return what its waiters are to hear.

    Returns RQ's `Retry` where the job was handed back and belongs in the queue again; None where
    it was not there to be claimed, or is no longer ours.
    """
    claim = store.claim(job_id, this_worker.lease) if this_worker.may_claim else None
    if claim is None:
        return None
    with this_worker.calling(job_id) as call, ExitStack() as afterwards:
        running = RunningChat(claim, call, trail=claim.trail)
        return run_to_end(running, lambda: _ask(running, afterwards))


def _ask(running: RunningChat, afterwards: ExitStack) -> ChatOutcome:
    running.request = request = ChatRequest.checked(orjson.loads(running.body()))
    if request.stream:
        running.stream = _open_stream(running, afterwards)
    return _first_answer(running, candidates.find(request))


def _open_stream(running: RunningChat, afterwards: ExitStack) -> Stream:
    publisher = worker_publisher.publisher()
    stream = publisher.open(running.id, running.claim.job.attempt, running.call)
    afterwards.callback(publisher.close, stream)
    # The row knows better than the body: nobody listens to an asynchronous one.
    if running.claim.cancel_on_disconnect:
        this_worker.expect_listeners(running.id)
    return stream


def _first_answer(running: RunningChat, ways: list[ChatCandidate]) -> ChatOutcome:
    """Ask along the ways until one gives an answer."""
    attempts = Attempts(
        ways,
        running.call,
        running.trail,
        has_spoken=lambda: bool(running.events),
        on_retry=lambda: _tell_trail(running),
    )
    try:
        return attempts.answer(lambda attempt: _ask_one(running, attempt))
    except ModelGone:
        if ways[0].model.id in catalog.models:
            raise
        # Not an id of ours: the caller named a model that the vendor does not know.
        raise ModelNotFound(
            f"The model '{ways[0].model.id}' does not exist. GET /api/v1/ai/models lists the "
            "models.",
            param="model",
        ) from None


def _tell_trail(running: RunningChat) -> None:
    """Let those who follow the job see what failed, before it has ended."""
    with suppress(Unavailable):  # It is told again when the job ends.
        store.note_trail(running.claim.job, running.trail)


def _ask_one(running: RunningChat, attempt: Attempt[ChatCandidate]) -> ChatOutcome:
    """Ask one provider, once."""
    way = attempt.candidate
    running.call.asked = True
    running.assembly = Assembly()
    running.asked = UpstreamAttribution(
        way.provider.name, way.upstream_model, way.model.price, running.trail
    )
    completion = _stream(running, attempt) if running.stream else _complete(running, attempt)
    return _answer(running, way, completion)


def _complete(running: RunningChat, attempt: Attempt[ChatCandidate]) -> dict[str, Any]:
    way = attempt.candidate
    limit = _limit(running, way)
    return way.provider.complete(way.request, way.route, limit, attempt.key.secret, running.call)


def _limit(running: RunningChat, way: ChatCandidate) -> int:
    """Return the most tokens of one choice to ask for: of what was held for, what the model has."""
    most = running.claim.max_tokens
    return min(most, way.route.upstream.max_output_tokens or most)


def _stream(running: RunningChat, attempt: Attempt[ChatCandidate]) -> dict[str, Any]:
    way, stream = attempt.candidate, running.stream
    assert stream is not None
    stream.source = Source(way.provider.name, way.upstream_model, len(running.trail))
    running.call.allow(catalog.timeouts.first_token(way.route.upstream.reasoning))
    with closing(
        way.provider.stream(
            way.request,
            way.route,
            _limit(running, way),
            attempt.key.secret,
            running.call,
        )
    ) as chunks:
        return _relay(chunks, running, attempt, stream)


def _relay(
    chunks: Any, running: RunningChat, attempt: Attempt[ChatCandidate], stream: Stream
) -> dict[str, Any]:
    """Publish a provider's chunks as they come, and return the completion they make.

    The finish reasons and the usage are not among what is published: they go out when the answer
    has been paid for.
    """
    assert running.request is not None
    model, include_usage = running.request.model, running.request.include_usage
    patience = catalog.timeouts.first_token(attempt.candidate.route.upstream.reasoning)
    for chunk in chunks:
        running.assembly.add(chunk)
        # While readers are slow, it is not the provider that is waited for.
        running.call.allow(None)
        if _says_something(chunk):
            attempt.record_success()
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


def _answer(running: RunningChat, way: ChatCandidate, completion: dict[str, Any]) -> ChatOutcome:
    assert running.request is not None
    usage = _usage(way.request, completion)
    shown = {"model": running.request.model, "usage": completion.get("usage") or usage.as_json()}
    return ChatOutcome(
        content=completion | shown,
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
    prompt = count.count_prompt(request.body)
    return Usage(prompt, count.count_answer(completion), estimated=True)


def _says_nothing(completion: dict[str, Any]) -> bool:
    """Tell an answer without completion tokens and without a finish reason: it is free."""
    usage = completion.get("usage") or {}
    finished = any(choice.get("finish_reason") for choice in completion.get("choices", ()))
    return not finished and not usage.get("completion_tokens")
