"""Run one chat: call its candidates' providers, streaming or not, and settle."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
from rq import Retry

from billing.outcomes import ChatOutcome, Settled, UpstreamAttribution
from config.catalog.load import catalog
from jobs.lifecycle import bodies, store
from jobs.streaming import sse
from jobs.streaming.messages import Ended, Source
from jobs.worker import publisher as worker_publisher
from jobs.worker import run_job
from jobs.worker.in_flight import this_worker
from jobs.worker.publisher import Stream
from jobs.worker.run_job import RunningJob
from models.chat import ChatRequest, Usage
from models.errors import ModelGone, ModelNotFound, Unavailable
from providers.wire.chunks import Assembly
from routing import candidates
from routing.attempts import Attempt, Attempts
from routing.candidates import ChatCandidate
from tokens import count


@dataclass
class ChatJob(RunningJob):
    """A chat while it runs, and, if it streams, what was streamed so far."""

    request: ChatRequest | None = None
    assembly: Assembly = field(default_factory=Assembly)

    def partial_outcome(self) -> ChatOutcome:
        """Return the usage of a cancelled job: the prompt as counted, and the text so far."""
        assert self.request is not None  # A provider was called.
        produced = self.assembly.completion()
        if produced.get("usage"):
            usage = _usage(self.request, produced)
        else:
            prompt = count.count_prompt(self.request.body)
            usage = Usage(prompt, count.count_answer(produced), estimated=True)
        return ChatOutcome({}, usage, self.upstream, events=self.last_event)

    def tail(self, settled: Settled) -> list[bytes] | None:
        if self.stream is None:
            return None
        assert self.request is not None
        return sse.tail(orjson.loads(settled.body), self.request.include_usage)


def run(job_id: str) -> Ended | Retry | None:
    """Run a queued chat to its end, and return how it ended, for its subscribers.

    Returns RQ's `Retry` if the job was handed back and belongs in the queue again; None if it
    could not be claimed, or is no longer ours.
    """
    claim = run_job.claim(job_id)
    if claim is None:
        return None
    with this_worker.calling(claim.job) as call, ExitStack() as cleanup:
        job = ChatJob(claim, call, trail=claim.trail)
        return run_job.run_to_end(job, lambda: _ask(job, cleanup))


def _ask(job: ChatJob, cleanup: ExitStack) -> ChatOutcome:
    """Ask the candidates in turn until one answers."""
    job.request = request = ChatRequest.from_validated(bodies.decoded(job.body()))
    if request.stream:
        job.stream = _open_stream(job, cleanup)
    to_try = candidates.find(request)
    attempts = Attempts(
        to_try,
        job.call,
        job.trail,
        has_spoken=lambda: bool(job.last_event),
        on_retry=lambda: _record_trail(job),
    )
    try:
        return attempts.answer(lambda attempt: _call_provider(job, attempt))
    except ModelGone:
        model_id = to_try[0].model.id
        if model_id in catalog.models:
            raise
        # Not an id of the catalogue: the caller named a model that the vendor does not know.
        raise ModelNotFound(
            f"The model '{model_id}' does not exist, or no vendor has it at the prices that this "
            "service pays. GET /api/v1/ai/models lists the models.",
            param="model",
        ) from None


def _open_stream(job: ChatJob, cleanup: ExitStack) -> Stream:
    publisher = worker_publisher.publisher()
    stream = publisher.open(job.id, job.claimed.attempt, job.call)
    cleanup.callback(publisher.close, stream)
    # The row decides, not the body: an asynchronous job has no listener.
    if job.claim.cancel_on_disconnect:
        this_worker.expect_listeners(job.id)
    return stream


def _record_trail(job: ChatJob) -> None:
    """Store the trail while the job runs, so that its followers see failed attempts."""
    with suppress(Unavailable):  # The trail is stored again when the job ends.
        store.save_trail(job.claimed, job.trail)


def _call_provider(job: ChatJob, attempt: Attempt[ChatCandidate]) -> ChatOutcome:
    """Call one provider, once."""
    candidate = attempt.candidate
    provider, request, route = candidate.provider, candidate.request, candidate.route
    job.call.was_provider_called = True
    job.assembly = Assembly()
    job.upstream = UpstreamAttribution(
        candidate.provider.name, candidate.upstream_model, candidate.model.price, job.trail
    )
    # The tokens of one choice: what was held for, within what the model can produce.
    held_for = job.claim.max_tokens
    max_tokens = min(held_for, route.upstream.max_output_tokens or held_for)
    if job.stream is None:
        completion = provider.complete(request, route, max_tokens, attempt.key.secret, job.call)
        return _outcome(job, request, completion)
    job.stream.source = Source(candidate.provider.name, candidate.upstream_model, len(job.trail))
    job.call.allow(catalog.timeouts.first_token(route.upstream.reasoning))
    chunks = provider.stream(request, route, max_tokens, attempt.key.secret, job.call)
    with closing(chunks):
        return _outcome(job, request, _relay(chunks, job, attempt, job.stream))


def _relay(
    chunks: Iterator[dict[str, Any]], job: ChatJob, attempt: Attempt[ChatCandidate], stream: Stream
) -> dict[str, Any]:
    """Publish a provider's chunks as they come, and return the completion they make.

    The finish reasons and the usage are not published here: they go out once the answer is paid
    for.
    """
    assert job.request is not None
    model, include_usage = job.request.model, job.request.include_usage
    patience = catalog.timeouts.first_token(attempt.candidate.route.upstream.reasoning)
    for chunk in chunks:
        job.assembly.add(chunk)
        # Time spent waiting for slow readers does not count against the provider.
        job.call.allow(None)
        if _has_open_choice(chunk):
            attempt.record_success()
            stream.publish(sse.chunk(chunk, model, include_usage))
        if _has_token(chunk):
            patience = catalog.timeouts.between_tokens_seconds
        job.call.allow(patience)
    job.call.allow(None)
    # Only what was certainly published is charged.
    stream.flush()
    return job.assembly.completion()


def _has_token(chunk: dict[str, Any]) -> bool:
    """Tell whether a chunk has a piece of the answer; the first one may only have a role."""
    deltas = [choice["delta"] for choice in chunk["choices"]]
    return any(value for delta in deltas for name, value in delta.items() if name != "role")


def _has_open_choice(chunk: dict[str, Any]) -> bool:
    return any(choice["finish_reason"] is None for choice in chunk["choices"])


def _outcome(job: ChatJob, sent: ChatRequest, completion: dict[str, Any]) -> ChatOutcome:
    """Return the outcome of a `completion`; `sent` is the request as the provider got it."""
    assert job.request is not None
    usage = _usage(sent, completion)
    replaced = {"model": job.request.model, "usage": completion.get("usage") or usage.as_json()}
    return ChatOutcome(
        content=completion | replaced,
        usage=usage,
        upstream=job.upstream,
        free=_is_empty(completion),
        events=job.stream.last_number if job.stream else None,
    )


def _usage(request: ChatRequest, completion: dict[str, Any]) -> Usage:
    """Return the tokens as the provider reported them, else as we count them."""
    reported = completion.get("usage")
    if reported:
        return Usage(
            max(0, int(reported.get("prompt_tokens") or 0)),
            max(0, int(reported.get("completion_tokens") or 0)),
        )
    prompt = count.count_prompt(request.body)
    return Usage(prompt, count.count_answer(completion), estimated=True)


def _is_empty(completion: dict[str, Any]) -> bool:
    """Tell whether an answer has neither completion tokens nor a finish reason: it is free."""
    usage = completion.get("usage") or {}
    has_finished = any(choice.get("finish_reason") for choice in completion.get("choices", ()))
    return not has_finished and not usage.get("completion_tokens")
