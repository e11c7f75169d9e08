"""The web process's one listener for the messages of its jobs."""

from functools import cache

import gevent

from access import keys
from jobs.maintenance import passes
from jobs.streaming.pubsub import Listener


@cache
def listener() -> Listener:
    """Return the listener of this process, and start it with maintenance on the first call."""
    listener = Listener({keys.CHANGED_CHANNEL: keys.forget})
    gevent.spawn(passes.run_while_awaited, listener)
    return listener
