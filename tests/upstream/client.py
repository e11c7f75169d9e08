"""Starts the upstream as a process, and steers it over HTTP."""

import http.client
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from tests.upstream.completions import Step

ROOT = Path(__file__).parents[2]
WAIT_SECONDS = 60.0

#: What the body's framing and the connection make anew.
HOP_BY_HOP = frozenset(
    {"connection", "content-encoding", "content-length", "keep-alive", "transfer-encoding"}
)


class Upstream:
    """A server in a process of its own, and the means to steer it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.upstream", "--port", "0", "--until-stdin-closes"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._process.terminate()
        # Closes the pipes, too.
        self._process.communicate()

    def script(self, *steps: Step, default: Step | None = None) -> None:
        """Answer the next requests with `steps`, in order, and all others with `default`."""
        told: dict[str, Any] = {"next": steps}
        if default is not None:
            told["default"] = default
        self._ask("POST", "/__script", told)

    def play(self, *exchanges: dict[str, Any]) -> None:
        """Answer the next requests as recorded exchanges were answered, byte for byte."""
        self.script(*(as_step(exchange["response"]) for exchange in exchanges))

    def play_always(self, exchange: dict[str, Any]) -> None:
        """Answer every request as one recorded exchange was answered."""
        self.script(default=as_step(exchange["response"]))

    def calls(self) -> list[dict[str, Any]]:
        """Return the requests so far: `method`, `path`, `headers`, `body`, `aborted`.

        A body that is not JSON, such as a multipart form, is text.
        """
        return list(self._ask("GET", "/__calls")["calls"])

    def counts(self) -> dict[str, int]:
        """Return how many requests were `received`, are `running`, were `aborted` by the client,
        and how many `connections` they came on."""
        return dict(self._ask("GET", "/__calls?bare=1"))

    def wait(self, **counts: int) -> None:
        """Wait until `received=N` requests have come, or the client left `aborted=N` of them."""
        query = "&".join(f"{name}={count}" for name, count in counts.items())
        reached = self._ask("GET", f"/__calls?bare=1&{query}")
        for name, count in counts.items():
            assert reached[name] >= count, f"{name}: {reached[name]}, not {count}"

    def release(self) -> None:
        """Let the answers and the predictions go on that a step holds."""
        self._ask("POST", "/__release")

    def reset(self) -> None:
        self._ask("POST", "/__reset")

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2 * WAIT_SECONDS)
        try:
            connection.request(method, path, json.dumps(body), {"Connection": "close"})
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


def as_step(response: dict[str, Any]) -> Step:
    """Return the step that answers as the recorded `response` does."""
    kept = {k: v for k, v in response["headers"].items() if k.lower() not in HOP_BY_HOP}
    body: Step = {name: response[name] for name in ("body", "body_base64") if name in response}
    return {"status": response["status"], "headers": kept, **body}
