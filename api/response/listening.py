"""A request's wait for a job: its subscription and the watch on its client, closed together."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

from flask import Response

from api.server import client
from api.server.client import Client
from jobs.following import listener
from jobs.following.wait import WaitInterrupted
from jobs.streaming.messages import Ended
from jobs.streaming.pubsub import Subscription


@dataclass(frozen=True)
class Wait:
    """One request that waits for one job."""

    subscription: Subscription
    client: Client
    #: Closes both.
    stack: ExitStack

    @property
    def job_id(self) -> str:
        return self.subscription.job_id

    def wait_until_confirmed(self) -> None:
        """Block until messages published from now on are received; raise `Unavailable` if not."""
        self.subscription.wait_until_confirmed()

    def put(self, message: Ended | WaitInterrupted) -> None:
        """Put a message into the inbox, as if it had been published."""
        self.subscription.inbox.put(message)

    def watch_client(self) -> None:
        """Interrupt the wait when the client disconnects."""
        self.client.watch(lambda: self.put(WaitInterrupted.DISCONNECTED))

    def until_closed(self, response: Response) -> Response:
        """Keep listening beyond the `with` block, until `response` is closed; return it."""
        response.call_on_close(self.stack.pop_all().close)
        return response


@contextmanager
def listening(job_id: str) -> Iterator[Wait]:
    """Subscribe to a job for the length of the block, or of a response (`Wait.until_closed`).

    The subscription is under way, see `Wait.wait_until_confirmed`; the client is watched from
    `Wait.watch_client` on. Raises `Unavailable` if Redis does not answer.
    """
    with ExitStack() as stack:
        subscription = stack.enter_context(closing(listener.listener().listen(job_id)))
        caller = client.current()
        stack.callback(caller.unwatch)
        yield Wait(subscription, caller, stack)
