"""Many callers at once in tests: threads, each with a request of its own."""

import http.client
import json
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

from tests.stack import Reply, fetch

HELLO = {"model": "gpt-4", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 100}


class Callers:
    """Calls under way, whose replies are gathered later. Status 0 is a broken connection."""

    def __init__(self, most: int = 200) -> None:
        self.threads = ThreadPoolExecutor(most)
        self.calls: list[Future[Reply]] = []

    def call(
        self,
        url: str,
        key: str,
        times: int = 1,
        body: Any = HELLO,
        path: str = "chat/completions",
        **options: Any,
    ) -> None:
        for _ in range(times):
            self.calls.append(self.threads.submit(_try, f"{url}/v1/{path}", body, key, options))

    def draw(self, url: str, key: str, body: Any, times: int = 1, **options: Any) -> None:
        """Ask for images."""
        self.call(url, key, times, body, "images/generations", **options)

    def replies(self) -> list[Reply]:
        """Wait for every call and return what each got, in the order they were made."""
        replies = [call.result() for call in self.calls]
        self.threads.shutdown()
        return replies


def _try(url: str, body: Any, key: str, options: dict[str, Any]) -> Reply:
    try:
        return fetch(url, body, key=key, **options)
    except Exception as error:  # What breaks a connection has many classes.
        return 0, {}, repr(error).encode()


def fetch_from(address: str, url: str, key: str, body: Any = None, **headers: str) -> Reply:
    """Send one request from a loopback address other than the usual 127.0.0.1.

    `headers`: with `_` in place of `-`.
    """
    parts = urlsplit(url)
    assert parts.hostname is not None
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    sent |= {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    client = http.client.HTTPConnection(
        parts.hostname, parts.port, timeout=60, source_address=(address, 0)
    )
    with closing(client):
        method = "GET" if body is None else "POST"
        client.request(method, parts.path, None if body is None else json.dumps(body), sent)
        reply = client.getresponse()
        got = {name.lower(): value for name, value in reply.getheaders()}
        return reply.status, got, reply.read()
