"""The official clients, streams and images: one test for all, each as its users call it."""

import base64
import io
import json
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import ON_SQLITE, Server
from tests.events import at_once, words
from tests.stack import Account, clean_environment, fetch, wait_until
from tests.upstream import Upstream, said

pytestmark = ON_SQLITE

HERE = Path(__file__).resolve().parents[1]
PATIENCE_SECONDS = 60

#: Each is named after its language and the first number of its version.
SDKS = [
    pytest.param("node-6", marks=pytest.mark.node),
    *(pytest.param(f"python-{major}", marks=pytest.mark.sdks) for major in (1, 2, 3)),
]

#: The one that is installed beside the tests themselves.
OURS = "python-3"

BROKEN = {"error": {"message": "Broken.", "type": "server_error"}}
BAD = {"error": {"message": "Bad.", "type": "invalid_request_error", "param": "messages"}}


class Sdk:
    """A program that uses one of the clients, alive for as many calls as there are."""

    def __init__(self, name: str) -> None:
        self.major = name.partition("-")[2]
        self._process = subprocess.Popen(
            _command(name),
            cwd=HERE / "node",
            env=clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def does(self, what: str, api: str, key: str) -> Any:
        """Return what comes of it; the scripts say what there is to do."""
        assert self._process.stdin is not None and self._process.stdout is not None
        asked = {"do": what, "base_url": api, "api_key": key}
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        answered, _, _ = select.select([self._process.stdout], [], [], PATIENCE_SECONDS)
        assert answered, "The client waits for something that does not come."
        line = self._process.stdout.readline()
        assert line, "The client is no more; its last words are on standard error."
        return json.loads(line)

    def stop(self) -> None:
        self._process.terminate()
        # Closes the pipes, too.
        self._process.communicate()


def _command(name: str) -> list[str]:
    language, _, major = name.partition("-")
    if language == "node":
        return ["node", "streams.mjs"]
    folder = HERE / "sdks" / f".venv-{major}"
    if name != OURS and not (folder / ".ready").exists():
        pytest.skip(f"openai {major} is not there: make test-all installs it.")
    python = sys.executable if name == OURS else str(folder / "bin" / "python")
    return [python, str(HERE / "sdks" / "chat.py")]


@pytest.fixture(scope="module")
def running() -> Iterator[dict[str, Sdk]]:
    """The clients that were started so far."""
    sdks: dict[str, Sdk] = {}
    yield sdks
    for sdk in sdks.values():
        sdk.stop()


@pytest.fixture(params=SDKS)
def sdk(request: pytest.FixtureRequest, running: dict[str, Sdk]) -> Sdk:
    if request.param not in running:
        running[request.param] = Sdk(request.param)
    return running[request.param]


@pytest.fixture(scope="module")
def relaying_api(server: Server) -> str:
    """The product where a plain call is relayed after two seconds."""
    return f"{server.stack.web(sync_wait_seconds=2)}/api/v1/ai"


@pytest.fixture(scope="module")
def hasty_api(server: Server) -> str:
    """The product where it sends a stream's headers at once, with a comment."""
    return f"{server.stack.web(stream_commit_seconds=0)}/api/v1/ai"


# ---- Answers


def test_a_plain_call_works(sdk: Sdk, server: Server, account: Account) -> None:
    found = sdk.does("plain", server.api, account.key)

    assert found["version"].split(".")[0] == sdk.major
    assert found["completion"]["choices"][0]["message"]["content"] == "Hello from upstream."
    assert found["completion"]["credits_consumed"] == 1
    assert account.standing() == (9999, 0)


def test_the_documentations_loop_reads_a_whole_stream(
    sdk: Sdk, server: Server, account: Account
) -> None:
    found = sdk.does("stream", server.api, account.key)

    assert found["text"] == "Hello from upstream."
    assert found["provider"] == "openai"
    *chunks, last = found["chunks"]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["credits_consumed"] == 1
    assert not any("credits_consumed" in chunk for chunk in chunks)
    assert account.standing() == (9999, 0)


def test_the_usage_comes_where_it_was_asked_for(sdk: Sdk, server: Server, account: Account) -> None:
    found = sdk.does("usage", server.api, account.key)

    assert found["text"] == "Hello from upstream."
    *chunks, last = found["chunks"]
    assert [chunk["usage"] for chunk in chunks] == [None] * len(chunks)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 15
    assert last["credits_consumed"] == 1


def test_the_stream_helper_assembles_the_completion(
    sdk: Sdk, server: Server, account: Account
) -> None:
    found = sdk.does("helper", server.api, account.key)

    assert found["text"] == "Hello from upstream."
    (choice,) = found["completion"]["choices"]
    assert choice["message"]["content"] == "Hello from upstream."
    assert choice["finish_reason"] == "stop"
    assert found["completion"]["usage"]["total_tokens"] == 15


def test_a_comment_before_the_first_chunk_disturbs_no_client(
    sdk: Sdk, hasty_api: str, account: Account, upstream: Upstream
) -> None:
    upstream.script(words(3, delay=0.5))

    found = sdk.does("stream", hasty_api, account.key)

    # Nobody knew yet who would answer: so these headers went out before the first chunk.
    assert found["provider"] is None
    assert found["text"] == "w0 w1 w2 "
    assert found["chunks"][-1]["credits_consumed"] == 1


def test_a_long_answer_comes_through_short_waits_and_is_paid_once(
    sdk: Sdk, relaying_api: str, account: Account, upstream: Upstream
) -> None:
    upstream.script({"delay": 5})

    found = sdk.does("plain", relaying_api, account.key)

    assert found["completion"]["choices"][0]["message"]["content"] == "Hello from upstream."
    assert len(upstream.calls()) == len(account.jobs()) == 1
    assert account.standing() == (9999, 0)


def test_images_are_links_or_base64_of_the_size_that_was_asked_for(
    sdk: Sdk, server: Server, account: Account
) -> None:
    found = sdk.does("images", server.api, account.key)

    (linked,) = found["url"]["data"]
    assert _size(fetch(linked["url"])[2]) == (1024, 1024)
    assert found["url"]["credits_consumed"] == 15
    images = [base64.b64decode(datum["b64_json"]) for datum in found["b64_json"]["data"]]
    assert [_size(image) for image in images] == [(256, 256), (256, 256)]
    assert found["b64_json"]["credits_consumed"] == 20
    assert _told(found["error"]) == (
        "BadRequestError",
        400,
        "unsupported_parameter",
        "invalid_request_error",
    )
    assert account.standing() == (9965, 0)


def _size(content: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        return image.size


# ---- Leaving


@pytest.mark.parametrize("leave", ["break_off", "close"])
def test_leaving_a_stream_stops_the_provider_and_pays_for_what_was_said(
    sdk: Sdk, server: Server, account: Account, upstream: Upstream, leave: str
) -> None:
    # Nothing follows the third word for a minute: only the hang-up itself can be noticed.
    events = [said(role="assistant", content=""), *[said(content=f"w{n} ") for n in range(3)]]
    upstream.script({"events": [at_once(events), said(content="never")], "gap": 60})

    found = sdk.does(leave, server.api, account.key)
    upstream.wait(aborted=1)

    assert found == {"read": 4}
    wait_until(lambda: account.jobs()[0]["status"] == "cancelled", "the job is cancelled")
    assert [job["charged"] for job in account.jobs()] == [1]
    assert account.standing() == (9999, 0)


# ---- Failures


@pytest.mark.parametrize(
    ("step", "error"),
    [
        (
            {"status": 400, "json": BAD},
            ("BadRequestError", 400, "invalid_parameter", "invalid_request_error"),
        ),
        (
            {"status": 500, "json": BROKEN},
            ("InternalServerError", 502, "provider_error", "upstream_error"),
        ),
    ],
    ids=["the caller's", "the provider's"],
)
def test_a_failure_before_the_first_chunk_is_raised_as_what_it_is(
    sdk: Sdk,
    server: Server,
    account: Account,
    upstream: Upstream,
    step: dict[str, Any],
    error: tuple[str, int, str, str],
) -> None:
    upstream.script(default=step)

    found = sdk.does("stream", server.api, account.key)

    assert _told(found["error"]) == error
    assert found["chunks"] == []
    assert account.standing() == (10_000, 0)
    # The client was told not to try again.
    assert [job["status"] for job in account.jobs()] == ["failed"]


def test_a_wrong_key_is_raised_as_what_it_is(sdk: Sdk, server: Server) -> None:
    found = sdk.does("stream", server.api, "sk-wrong")

    assert _told(found["error"]) == (
        "AuthenticationError",
        401,
        "invalid_api_key",
        "invalid_request_error",
    )


def test_a_failure_in_the_middle_is_raised_after_what_was_said(
    sdk: Sdk, server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script({"events": [said(role="assistant", content="Hel"), said(content="lo")]})

    found = sdk.does("stream", server.api, account.key)

    assert found["text"] == "Hello"
    assert _told(found["error"]) == ("APIError", None, "provider_error", "upstream_error")
    assert account.standing() == (10_000, 0)
    assert [job["status"] for job in account.jobs()] == ["failed"]


def test_a_failure_after_a_comment_is_raised_too(
    sdk: Sdk, hasty_api: str, account: Account, upstream: Upstream
) -> None:
    upstream.script(default={"delay": 0.5, "status": 500, "json": BROKEN})

    found = sdk.does("stream", hasty_api, account.key)

    # Its status had gone out before, as a success.
    assert _told(found["error"]) == ("APIError", None, "provider_error", "upstream_error")
    assert found["chunks"] == []
    assert account.standing() == (10_000, 0)


def _told(error: dict[str, Any]) -> tuple[str, int | None, str, str]:
    return error["class"], error["status"], error["code"], error["type"]
