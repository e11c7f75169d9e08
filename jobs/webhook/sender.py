"""Webhooks on their way: signed as Standard Webhooks says, sent, and tried again for a day.

Whoever asks for a job chooses where its webhook goes, and it goes from inside the operator's
network. So it goes to public addresses only, unless the operator says otherwise, by the rules by
which images are fetched (`net.public_hosts`): straight to an address that was checked.
"""

import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import gevent
import structlog
from gevent.pool import Group
from rq.worker import BaseWorker
from sqlalchemy import Row
from standardwebhooks import Webhook as Signature

from jobs.webhook import outbox, receiver
from jobs.worker import in_flight
from jobs.worker.in_flight import HandedBack
from jobs.worker.services import Service
from models.errors import InvalidRequest, LikeDoError, ProviderFailed, ProviderTimeout, Unavailable
from net import http, public_hosts, untrusted
from net.answer import Answer
from net.call import Call, child_call
from providers.wire.retry_after import retry_after

log = structlog.get_logger()

#: A worker looks this often for what became due, and for what others put in the outbox.
POLL_SECONDS = 2
#: One try, from the look-up of the name to the answer's head.
SEND_SECONDS = 20
#: What follows each failed try; after the last one it is given up, a day after the first.
BACKOFF_SECONDS = (5, 30, 120, 600, 1800, 3600, 2 * 3600, 4 * 3600, 8 * 3600, 8 * 3600)
#: Each is so much longer or shorter, by chance, that those who fail together do not come together.
JITTER = 0.1
#: A receiver may ask for this much of a pause.
MAX_RETRY_AFTER_SECONDS = 3600
#: When a worker stops, what is being sent may take so long; and then, to be handed back.
PARTING_SECONDS, HAND_BACK_SECONDS = 1, 0.5

#: It has gone for good: nothing more is sent.
GONE = 410
LATE = f"The receiver did not answer in {SEND_SECONDS} seconds."
UNREACHABLE = "The receiver was not reached, had no valid certificate, or broke off"


@dataclass(frozen=True)
class DeliveryResult:
    """What came of one try."""

    #: The answer's status; None where there was no answer.
    status: int | None
    #: Why it failed, if it did.
    why: str
    #: Seconds that the receiver asks to wait.
    retry_after: float = 0


def send(call: Call, message: Row[Any]) -> DeliveryResult:
    """Try to deliver a message, once; raise what `call` was aborted with."""
    body, secret = outbox.body_of(message), outbox.secret_of(message)
    with child_call(call, SEND_SECONDS) as part:
        try:
            parts = public_hosts.checked(message.url, receiver.NAMED)
            addresses = receiver.addresses(part, parts)
            headers = _headers(message.id, body, secret)
            with untrusted.post_to(part, parts.geturl(), addresses, headers, body) as answer:
                return _result_of(answer)
        except (InvalidRequest, ProviderFailed, ProviderTimeout) as error:
            call.check()
            return DeliveryResult(None, _explanation(error))


def _headers(message_id: str, body: bytes, secret: str) -> dict[str, str]:
    at = int(time.time())
    moment = datetime.fromtimestamp(at, UTC)
    return {
        **http.HEADERS,
        "Accept": "*/*",
        "webhook-id": message_id,
        "webhook-timestamp": str(at),
        "webhook-signature": Signature(secret).sign(message_id, moment, body.decode()),
    }


def _result_of(answer: Answer) -> DeliveryResult:
    pauses = {name: text for name, text in answer.headers.items() if name.startswith("retry-after")}
    wait = min(retry_after(pauses) or 0, MAX_RETRY_AFTER_SECONDS)
    return DeliveryResult(
        answer.status, f"The receiver answered with HTTP status {answer.status}.", wait
    )


def _explanation(error: LikeDoError) -> str:
    if isinstance(error, ProviderTimeout):
        return LATE
    if isinstance(error, ProviderFailed):
        return f"{UNREACHABLE} ({error.__cause__ or error})."[:500]
    return error.message


def record(message: Row[Any], heard: DeliveryResult) -> None:
    """Write down what came of a try, and when the next one is due, if one is."""
    facts = {"id": message.id, "job": message.job_id, "tries": message.tries}
    if heard.status is not None and 200 <= heard.status < 300:
        log.info("webhook.delivered", **facts)
        outbox.note_delivered(message)
    elif heard.status == GONE or message.tries > len(BACKOFF_SECONDS):
        log.warning("webhook.given_up", **facts, reason=heard.why)
        outbox.give_up(message, heard.why)
    else:
        log.info("webhook.failed", **facts, reason=heard.why)
        outbox.try_again(message, pause(message.tries, heard.retry_after), heard.why)


def pause(tries: int, asked: float) -> float:
    """Return the seconds after the failed try number `tries`; at least what the receiver asked."""
    jitter = random.uniform(1 - JITTER, 1 + JITTER)
    return max(BACKOFF_SECONDS[tries - 1] * jitter, asked)


class _Try:
    """A message while it is sent."""

    def __init__(self, message: Row[Any]) -> None:
        self.message = message
        # What ends a try that takes too long is its own limit, not this.
        self.call = Call(2 * SEND_SECONDS)


class Dispatcher(Service):
    """Sends what is due, each message in a greenlet, until it is told to stop."""

    def __init__(self) -> None:
        self.tries: list[_Try] = []
        self.greenlets = Group()
        self.is_stopping = False

    def start(self, worker: BaseWorker) -> None:
        self.loop = gevent.spawn(self._send_for_ever)

    def _send_for_ever(self) -> None:
        while not self.is_stopping:
            try:
                self._send_what_is_due()
            except Unavailable as error:
                log.warning("webhooks.wait", reason=error.message)
            except Exception:  # A greenlet's outermost door: the next look may do better.
                log.exception("webhooks.broke")
            in_flight.webhook_due.wait(POLL_SECONDS)
            in_flight.webhook_due.clear()

    def _send_what_is_due(self) -> None:
        for message in outbox.take([each.message for each in self.tries]):
            attempt = _Try(message)
            self.tries.append(attempt)
            self.greenlets.start(gevent.Greenlet(self._send, attempt))

    def _send(self, attempt: _Try) -> None:
        message = attempt.message
        try:
            record(message, send(attempt.call, message))
        except HandedBack:
            self._hand_back(message)
        except Unavailable as error:
            # As if this worker had died: it is due again after a while.
            log.warning("webhook.unrecorded", id=message.id, reason=error.message)
        except Exception:  # A greenlet's outermost door.
            log.exception("webhook.broke", id=message.id)
        finally:
            self.tries.remove(attempt)
            # What waited for its place may be sent now.
            in_flight.webhook_due.set()

    def _hand_back(self, message: Row[Any]) -> None:
        try:
            outbox.hand_back(message)
        except Unavailable as error:
            log.warning("webhook.unrecorded", id=message.id, reason=error.message)

    def finish(self) -> None:
        """Take no more; let what is being sent end soon, or leave it to another worker."""
        self.is_stopping = True
        in_flight.webhook_due.set()
        self.loop.join(timeout=HAND_BACK_SECONDS)
        if not self.greenlets.join(timeout=PARTING_SECONDS):
            for attempt in list(self.tries):
                attempt.call.abort(HandedBack("The worker is stopping."))
            self.greenlets.join(timeout=HAND_BACK_SECONDS)
