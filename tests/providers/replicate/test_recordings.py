"""Replicate's predictions as they were recorded."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from models.errors import JobCancelled, LikeDoError, ModelGone, ProviderRefusedUs
from net.call import Call
from providers.image import DrawResult
from providers.replicate import Replicate, image_urls
from providers.wire import result_images
from tests import recordings
from tests.providers.replicate.drawing import SDXL, contents, creates, draw, failure, resume
from tests.providers.wanted_images import wanted
from tests.recordings import Recording
from tests.upstream import Step, Upstream

#: What is not passed through here, and why.
LEFT_OUT = {
    "prefer-wait-official-model-llama-01": "a language model's text, and a header that is not sent",
    "stream-llama-01": "a language model's text, as a stream that is not read",
    "error-404-problem-json-01": "passed through as a refusal of a create, below",
    "error-404-text-plain-01": "passed through as a refusal of a create, below",
    "error-401-invalid-token-01": "passed through as a refusal of a create, below",
    "download-image-01": "passed through as a download, below",
    "flux-examples-collection-01": "a list of models; their examples' outputs are read, below",
    "cancel-01": "passed through with its end, below",
    "create-starting-01": "passed through with the looks of the next, below",
    "get-succeeded-01": "passed through with the one before, below",
}
FOUND = {recording.case: recording for recording in recordings.load("replicate")}
WHOLE = [recording for case, recording in FOUND.items() if case not in LEFT_OUT]


def needs(*cases: str) -> list[Recording]:
    """Return the recordings of these cases; skip where they are not there."""
    if not FOUND:
        pytest.skip("There are no recordings beside the repository.")
    return [FOUND[case] for case in cases]


def is_create(exchange: dict[str, Any]) -> bool:
    request = exchange["request"]
    return (request["method"], request["url"].endswith("/predictions")) == ("POST", True)


def as_steps(upstream: Upstream, exchanges: list[dict[str, Any]]) -> list[Step]:
    """Return the steps that answer as recorded, files being the upstream's own.

    What `urls` says leads to Replicate still, and nobody goes there.
    """
    steps = []
    for exchange in exchanges:
        path = exchange["request"]["url"].partition("/v1")[2]
        response = exchange["response"]
        body = response["body"].replace("https://replicate.delivery/", f"{upstream.url}/files/")
        steps.append({"match": path, "status": response["status"], "body": body})
    # A poll finds its own step before it finds one that is for every path with its beginning.
    return sorted(steps, key=lambda step: len(step["match"]), reverse=True)


def drawn_as_recorded(exchange: dict[str, Any], folder: Path) -> DrawResult:
    """Draw what the `exchange` asked for."""
    body = exchange["request"]["body"]
    sent = dict(body["input"])
    request = wanted(prompt=sent.pop("prompt"), **sent)
    return draw(folder, request, model_of(exchange))


def model_of(exchange: dict[str, Any]) -> str:
    url, body = str(exchange["request"]["url"]), exchange["request"]["body"]
    if "/models/" in url:
        return url.partition("/models/")[2].removesuffix("/predictions")
    return f"{json.loads(exchange['response']['body'])['model']}:{body['version']}"


def without_webhook(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != "webhook"}


@pytest.mark.parametrize("recording", recordings.parameters(WHOLE, [str(each) for each in WHOLE]))
def test_every_recorded_prediction_comes_out(
    recording: Recording,
    upstream: Upstream,
    tmp_path: Path,
    pool: ThreadPoolExecutor,
) -> None:
    begun = [exchange for exchange in recording.exchanges if is_create(exchange)]
    asked = [each for each in recording.exchanges if "/predictions" in each["request"]["url"]]
    upstream.script(*as_steps(upstream, asked))

    drawn = list(pool.map(lambda exchange: drawn_as_recorded(exchange, tmp_path), begun))

    assert all(len(contents(each)) == 1 for each in drawn)
    sent = [call["body"] for call in creates(upstream)]
    recorded = [without_webhook(exchange["request"]["body"]) for exchange in begun]
    assert sorted(sent, key=json.dumps) == sorted(recorded, key=json.dumps)


def test_every_recording_is_passed_through_or_left_out_for_a_reason() -> None:
    needs()

    assert FOUND.keys() >= LEFT_OUT.keys()
    assert all("create" in recording.kinds for recording in WHOLE)


def test_a_recorded_prediction_is_found_again(upstream: Upstream, tmp_path: Path) -> None:
    starting, succeeded = needs("create-starting-01", "get-succeeded-01")
    exchanges = [starting.exchanges[0], *succeeded.exchanges]
    upstream.script(*as_steps(upstream, exchanges))
    told: list[str] = []

    first = draw(tmp_path, started=told.append, model=SDXL)
    second = resume(told[0], tmp_path)

    assert [len(contents(drawn)) for drawn in (first, second)] == [1, 1]
    assert len(creates(upstream)) == 1


def test_a_recorded_prediction_is_ended(upstream: Upstream, tmp_path: Path) -> None:
    [recording] = needs("cancel-01")
    upstream.script(*as_steps(upstream, list(recording.exchanges)))
    call = Call(20)

    def started(id: str) -> None:
        call.abort(JobCancelled("Enough."))
        Replicate().cancel(id, "r8_test", Call(20))

    assert isinstance(failure(tmp_path, model=SDXL, call=call, started=started), JobCancelled)
    assert upstream.counts()["received"] == len(recording.exchanges)


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        ("error-401-invalid-token-01", ProviderRefusedUs),
        ("error-404-problem-json-01", ModelGone),
        ("error-404-text-plain-01", ModelGone),
    ],
)
def test_a_recorded_refusal_is_ours(
    case: str, kind: type[LikeDoError], upstream: Upstream, tmp_path: Path
) -> None:
    [recording] = needs(case)
    upstream.play(recording.exchanges[0])

    error = failure(tmp_path)

    assert type(error) is kind
    assert error.nothing_ran


def test_a_recorded_file_is_fetched(upstream: Upstream, tmp_path: Path) -> None:
    [recording] = needs("download-image-01")
    upstream.play(recording.exchanges[0])

    path = result_images.download(Call(20), f"{upstream.url}/x.png", tmp_path, upstream.url)

    assert path.read_bytes().startswith(b"\x89PNG")


def test_the_examples_of_flux_have_addresses() -> None:
    [recording] = needs("flux-examples-collection-01")
    collection = json.loads(recording.exchanges[0]["response"]["body"])
    examples = [model["default_example"] for model in collection["models"]]

    found = [image_urls(example["output"]) for example in examples if example]

    assert found
    assert all(url.startswith("https://") for urls in found for url in urls)
    assert all(urls for urls in found)
