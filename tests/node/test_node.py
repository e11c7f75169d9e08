"""The official OpenAI client for Node.js, as its users call it."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ON_SQLITE, Server
from tests.stack import Account, clean_environment
from tests.upstream import Upstream

NODE = Path(__file__).resolve().parent

pytestmark = [pytest.mark.node, ON_SQLITE]


def run(script: str, server: Server, account: Account) -> Any:
    """Return the JSON document that `script` prints."""
    env = clean_environment() | {"BASE_URL": server.api, "API_KEY": account.key}
    done = subprocess.run(
        ["node", script], cwd=NODE, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_node_client_works_unmodified(
    server: Server, account: Account, upstream: Upstream
) -> None:
    said = run("chat.mjs", server, account)

    answer = said["plain"]
    assert answer["model"] == "gpt-4"
    assert answer["choices"][0]["message"]["content"] == "Hello from upstream."
    assert answer["credits_consumed"] == 1

    assert said["headers"]["status"] == 200
    assert said["headers"]["headers"]["x-provider"] == "openai"
    assert said["headers"]["headers"]["x-ratelimit-limit-requests"] == "2000"
    assert said["headers"]["headers"]["x-job-id"].startswith("job_")

    assert "gpt-4" in said["models"]["listed"]
    assert said["models"]["retrieved"]["successor"] == "gpt-4.1"

    # Two answers were paid for, and no refusal.
    assert account.standing() == (9_998, 0)
    assert len(upstream.calls()) == 2


def test_refusals_are_the_node_clients_own_exceptions(server: Server, account: Account) -> None:
    said = run("chat.mjs", server, account)

    assert _told(said["wrongKey"]) == ("AuthenticationError", 401, "invalid_api_key", None)
    assert _told(said["badRequest"]) == (
        "BadRequestError",
        400,
        "invalid_parameter",
        "temperature",
    )
    assert _told(said["unknownModel"]) == ("NotFoundError", 404, "model_not_found", "model")


def _told(error: dict[str, Any]) -> tuple[str, int, str, str | None]:
    return error["class"], error["status"], error["code"], error["param"]
