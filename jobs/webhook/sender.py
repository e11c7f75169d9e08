"""The sender of webhooks: signs them by Standard Webhooks, sends them, and retries for a day.

Callers choose the receivers, and webhooks are sent from inside the operator's network. So they are
sent only to public addresses, unless the operator allows others, and directly to an address that
was checked, as when images are fetched (`net.public_hosts`).
"""

import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import gevent
import structlog
from gevent.pool import Group
from rq.worker import BaseWorker
from standardwebhooks import Webhook as Signature

from jobs.webhook import outbox, receiver
from jobs.worker import in_flight
from jobs.worker.in_flight import HandedBack
from jobs.worker.services import Service
from models.errors import InvalidRequest, LikeDoError, ProviderFailed, ProviderTimeout, Unavailable
from models.webhook import Webhook
from net import http, public_hosts, untrusted
from net.answer import Answer
from net.call import Call, child_call
from providers.wire.retry_after import retry_after

log = structlog.get_logger()

#: The outbox is polled this often, for retries and for messages of other workers.
POLL_SECONDS = 2
#: The time limit of one try, from the DNS look-up to the head of the response.
SEND_SECONDS = 20
#: The pause after each failed try. After the last one, a day after the first try, it is given up.
BACKOFF_SECONDS = (5, 30, 120, 600, 1800, 3600, 2 * 3600, 4 * 3600, 8 * 3600, 8 * 3600)
#: A random share by which each pause varies, so that webhooks that failed together spread out.
JITTER = 0.1
#: The longest pause that a receiver may ask for.
MAX_RETRY_AFTER_SECONDS = 3600
#: When a worker stops, tries in progress get this long to end, and then to be handed back.
DRAIN_SECONDS, HAND_BACK_SECONDS = 1, 0.5

#: The status that stops delivery.
GONE = 410
TIMED_OUT = f"The receiver did not answer in {SEND_SECONDS} seconds."
UNREACHABLE = "The receiver was not reached, had no valid certificate, or broke off"


@dataclass(frozen=True)
class DeliveryResult:
    """The result of one try."""

    #: The response's status; None if there was no response.
    status: int | None
    #: Why it failed, if it did.
    reason: str
    #: Seconds that the receiver asks us to wait.
    retry_after: float = 0


def send(call: Call, message: Webhook) -> DeliveryResult:
    """Try to deliver a message, once; raise the reason if `call` is aborted."""
    body, secret = outbox.body_of(message), outbox.secret_of(message)
    with child_call(call, SEND_SECONDS) as attempt:
        try:
            parts = public_hosts.parse_url(message.url, receiver.LABEL)
            addresses = receiver.addresses(attempt, parts)
            headers = _headers(message.id, body, secret)
            with untrusted.post_to(attempt, parts.geturl(), addresses, headers, body) as answer:
                return _result_of(answer)
        except (InvalidRequest, ProviderFailed, ProviderTimeout) as error:
            call.check()
            return DeliveryResult(None, _explanation(error))


def _headers(message_id: str, body: bytes, secret: str) -> dict[str, str]:
    timestamp = int(time.time())
    moment = datetime.fromtimestamp(timestamp, UTC)
    return {
        **http.HEADERS,
        "Accept": "*/*",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": Signature(secret).sign(message_id, moment, body.decode()),
    }


def _result_of(answer: Answer) -> DeliveryResult:
    headers = {
        name: value for name, value in answer.headers.items() if name.startswith("retry-after")
    }
    pause_seconds = min(retry_after(headers) or 0, MAX_RETRY_AFTER_SECONDS)
    return DeliveryResult(
        answer.status, f"The receiver answered with HTTP status {answer.status}.", pause_seconds
    )


def _explanation(error: LikeDoError) -> str:
    if isinstance(error, ProviderTimeout):
        return TIMED_OUT
    if isinstance(error, ProviderFailed):
        return f"{UNREACHABLE} ({error.__cause__ or error})."[:500]
    return error.message


def record(message: Webhook, result: DeliveryResult) -> None:
    """Record the result of a try, and when the next one is due, if one is."""
    facts = {"id": message.id, "job": message.job_id, "tries": message.tries}
    if result.status is not None and 200 <= result.status < 300:
        log.info("webhook.delivered", **facts)
        outbox.mark_delivered(message)
    elif result.status == GONE or message.tries > len(BACKOFF_SECONDS):
        log.warning("webhook.given_up", **facts, reason=result.reason)
        outbox.give_up(message, result.reason)
    else:
        log.info("webhook.failed", **facts, reason=result.reason)
        outbox.schedule_retry(message, pause(message.tries, result.retry_after), result.reason)


def pause(tries: int, min_seconds: float) -> float:
    """Return the seconds to wait after the failed try number `tries`, at least `min_seconds`."""
    jitter = random.uniform(1 - JITTER, 1 + JITTER)
    return max(BACKOFF_SECONDS[tries - 1] * jitter, min_seconds)


class _Try:
    """A message while it is being sent."""

    def __init__(self, message: Webhook) -> None:
        self.message = message
        # Used only to abort the try, which has a shorter timeout of its own.
        self.call = Call(2 * SEND_SECONDS, in_flight.source_of(message.account_id))


class Sender(Service):
    """Sends the due messages, each in a greenlet, until the worker stops."""

    def __init__(self) -> None:
        self.tries: list[_Try] = []
        self.greenlets = Group()
        self.is_stopping = False

    def start(self, worker: BaseWorker) -> None:
        self.loop = gevent.spawn(self._send_forever)

    def _send_forever(self) -> None:
        while not self.is_stopping:
            try:
                self._send_due()
            except Unavailable as error:
                log.warning("webhooks.delayed", reason=error.message)
            except Exception:  # A greenlet's outermost handler: the next pass may do better.
                log.exception("webhooks.failed")
            in_flight.webhook_due.wait(POLL_SECONDS)
            in_flight.webhook_due.clear()

    def _send_due(self) -> None:
        for message in outbox.claim([attempt.message for attempt in self.tries]):
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
            # As if this worker had died: the message is due again once the claim expires.
            log.warning("webhook.unrecorded", id=message.id, reason=error.message)
        except Exception:  # A greenlet's outermost handler.
            log.exception("webhook.send_failed", id=message.id)
        finally:
            self.tries.remove(attempt)
            # A message that waited for this one may be sent now.
            in_flight.webhook_due.set()

    def _hand_back(self, message: Webhook) -> None:
        try:
            outbox.hand_back(message)
        except Unavailable as error:
            log.warning("webhook.unrecorded", id=message.id, reason=error.message)

    def finish(self) -> None:
        """Claim no more; let tries in progress end soon, or leave them to another worker."""
        self.is_stopping = True
        in_flight.webhook_due.set()
        self.loop.join(timeout=HAND_BACK_SECONDS)
        if not self.greenlets.join(timeout=DRAIN_SECONDS):
            for attempt in list(self.tries):
                attempt.call.abort(HandedBack("The worker is stopping."))
            self.greenlets.join(timeout=HAND_BACK_SECONDS)
