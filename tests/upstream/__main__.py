"""Serves until it is told to stop."""

import argparse
import os

import gevent
from gevent.server import StreamServer
from gevent.socket import wait_read  # type: ignore[attr-defined]  # it is there

from tests import upstream
from tests.upstream.server import Server


def _stop_with_stdin() -> None:
    wait_read(0)
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=upstream.__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--until-stdin-closes", action="store_true")
    options = parser.parse_args()

    state = Server()
    if options.delay:
        state.answer_by_default(delay=options.delay)
    server = StreamServer((options.host, options.port), state.connected, backlog=4096)
    server.start()
    print(server.server_port, flush=True)
    if options.until_stdin_closes:
        gevent.spawn(_stop_with_stdin)
    server.serve_forever()


if __name__ == "__main__":
    main()
