"""Images asked for, and looked at."""

import base64
import http.client
import io
import json
from typing import Any

from PIL import Image

from tests.conftest import Server
from tests.stack import Account, fetch, wait_until
from tests.upstream import Upstream

#: The documentation's models, and who makes their images today.
DOCUMENTED = {
    "dall-e-3": "openai",
    "dall-e-2": "openai",
    "stable-diffusion": "replicate",
    "flux-pro": "replicate",
    "flux-schnell": "replicate",
    "stable-diffusion-xl": "stability",
}
CAT = "A cat with a cowboy hat, dancing in Rome."
NOT_AN_IMAGE = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\nnot really").decode()
FLUX = {"model": "flux-pro", "prompt": CAT}
DALL_E = {"model": "dall-e-3", "prompt": CAT}


def ask(server: Server, account: Account, body: Any) -> tuple[int, dict[str, str], Any]:
    status, headers, content = fetch(f"{server.api}/images/generations", body, key=account.key)
    return status, headers, json.loads(content)


def job_of(server: Server, account: Account, headers: dict[str, str]) -> Any:
    return json.loads(fetch(f"{server.api}/jobs/{headers['x-job-id']}", key=account.key)[2])


def look_at(url: str) -> tuple[str | None, tuple[int, int]]:
    """Return format and size of the image at `url`, which anybody can fetch."""
    status, _, content = fetch(url)
    assert status == 200
    return opened(content)


def opened(content: bytes) -> tuple[str | None, tuple[int, int]]:
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        return image.format, image.size


def predictions(upstream: Upstream) -> list[Any]:
    """Return what was asked of Replicate: the bodies of all calls that begin a prediction."""
    calls = [call for call in upstream.calls() if call["method"] == "POST"]
    return [call["body"] for call in calls if call["path"].endswith("/predictions")]


def leave(server: Server, account: Account, upstream: Upstream, body: Any) -> None:
    """Ask for images, and hang up when the provider is asked for them."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    key = {"Authorization": f"Bearer {account.key}"}
    connection.request("POST", "/v1/images/generations", json.dumps(body), key)
    sql = "SELECT count(*) FROM shots WHERE job_id = :id AND status = 'started'"
    upstream.wait(received=1)
    job_id = account.jobs()[0]["id"]
    wait_until(lambda: server.stack.query(sql, id=job_id) == [(1,)], "its prediction is known")
    connection.close()
