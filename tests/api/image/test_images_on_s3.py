"""Images in a bucket: links that work, and clear errors that cost nothing where it does not."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import provider_settings
from tests.servers.s3 import S3Server, aws_settings
from tests.stack import Account, Stack, fetch, stack
from tests.upstream import Upstream

BUCKET = "pictures"
DALL_E = {"model": "dall-e-3", "prompt": "A cat with a cowboy hat.", "size": "512x512"}


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(Path(tmp_path_factory.mktemp("s3")))
    server.reset(BUCKET)
    yield server
    server.process.kill()


@pytest.fixture(scope="module")
def on_s3(bucket: S3Server, shared_upstream: Upstream) -> Iterator[Stack]:
    settings = provider_settings(shared_upstream) | aws_settings()
    with stack(**settings, s3_bucket=BUCKET, s3_endpoint_url=bucket.url) as own:
        own.worker()
        yield own


def ask(url: str, account: Account, body: Any = DALL_E) -> tuple[int, Any]:
    status, _, content = fetch(f"{url}/v1/images/generations", body, key=account.key)
    return status, json.loads(content)


def size_of(content: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        return image.size


def test_a_link_is_signed_and_opens_for_anybody(on_s3: Stack, upstream: Upstream) -> None:
    url, account = on_s3.web(), on_s3.account()

    status, body = ask(url, account)

    assert status == 200
    link = body["data"][0]["url"]
    assert f"/{BUCKET}/media/" in link and "X-Amz-Signature=" in link
    found = fetch(link)
    assert (found[0], found[1]["content-type"]) == (200, "image/png")
    assert size_of(found[2]) == (512, 512)
    assert account.standing() == (990, 0)


def test_a_bucket_that_is_public_is_linked_to_by_its_own_address(
    on_s3: Stack, upstream: Upstream
) -> None:
    url = on_s3.web(s3_public_url="https://cdn.example.com/of-ours/")

    _, body = ask(url, on_s3.account())

    assert body["data"][0]["url"].startswith("https://cdn.example.com/of-ours/media/")
    assert body["data"][0]["url"].endswith(".png")


def test_base64_is_read_from_the_bucket(on_s3: Stack, upstream: Upstream) -> None:
    _, body = ask(on_s3.web(), on_s3.account(), DALL_E | {"response_format": "b64_json", "n": 4})

    images = [base64.b64decode(datum["b64_json"]) for datum in body["data"]]
    assert [size_of(image) for image in images] == [(512, 512)] * 4


@pytest.mark.parametrize("fault", ["no bucket", "wrong credentials", "nobody there"])
def test_a_bucket_that_takes_nothing_is_said_and_costs_nobody_anything(
    bucket: S3Server, upstream: Upstream, fault: str
) -> None:
    settings: dict[str, Any] = provider_settings(upstream) | aws_settings()
    settings |= {"s3_bucket": BUCKET, "s3_endpoint_url": bucket.url}
    match fault:
        case "no bucket":
            settings["s3_bucket"] = "another"
        case "wrong credentials":
            bucket.guard("s3:*")
            settings |= aws_settings("AKIAWRONGWRONGWRONG0", "wrong")
        case _:
            settings["s3_endpoint_url"] = "http://127.0.0.1:9"

    with stack(**settings) as own:
        url, account = own.web(), own.account()
        own.worker()
        status, body = ask(url, account)
        ready, _, content = fetch(f"{url}/readyz")

        assert (status, body["error"]["code"]) == (503, "unavailable")
        assert upstream.calls() == []
        assert account.standing() == (1000, 0)
        assert (ready, json.loads(content)["missing"]) == (503, ["storage"])
    bucket.reset(BUCKET)
