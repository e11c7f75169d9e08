"""A process that stops itself inside a transaction.

`python -m tests.database.stopper [greenlets]`

With `greenlets` it runs the transaction as web processes and workers do, else as commands do.
"""

import sys

if "greenlets" in sys.argv:
    from gevent import monkey

    monkey.patch_all()

import os
import signal

from sqlalchemy import Connection, text

import database


def stop(connection: Connection) -> None:
    connection.execute(text("UPDATE accounts SET balance = balance + 1"))
    os.kill(os.getpid(), signal.SIGSTOP)


if __name__ == "__main__":
    database.run(stop)
