"""Well-behaved callers: each sends chats and streams in turn, and notes how long each took."""

import http.client
import json
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

BODY = {"model": "gpt-4", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 100}


@dataclass
class Phase:
    """What callers saw while it lasted: seconds of each call, and every status that is not 200."""

    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def at(self, share: float) -> float:
        """Return the quantile `share` of the calls' seconds."""
        return sorted(self.seconds)[int((len(self.seconds) - 1) * share)]


class Callers:
    """One thread per key, calling until it is stopped; `phase` may be replaced meanwhile."""

    def __init__(self, url: str, keys: list[str], pause_seconds: float) -> None:
        self.phase = Phase()
        self._url = urlsplit(url)
        self._pause_seconds = pause_seconds
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(key,)) for key in keys]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, key: str) -> None:
        number = 0
        while not self._stop.wait(self._pause_seconds):
            self._call(key, streams=number % 2 == 1)
            number += 1

    def _call(self, key: str, streams: bool) -> None:
        phase, begun = self.phase, time.perf_counter()
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        connection = http.client.HTTPConnection(
            self._url.hostname or "", self._url.port, timeout=120
        )
        try:
            body = json.dumps(BODY | {"stream": streams})
            connection.request("POST", "/v1/chat/completions", body, headers)
            reply = connection.getresponse()
            content = reply.read()
            whole = content.endswith(b"data: [DONE]\n\n") if streams else b'"choices"' in content
            if reply.status != 200 or not whole:
                phase.failures.append(f"{reply.status} {content[-300:]!r}")
        except (OSError, http.client.HTTPException) as error:
            phase.failures.append(repr(error))
        finally:
            connection.close()
        phase.seconds.append(time.perf_counter() - begun)
