"""OpenAI's images as they were recorded."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from models.errors import ProviderRefusedUs, UnsupportedParameter
from providers.image import Picture
from tests import recordings
from tests.providers.openai_images.drawing import PATH, PNG, draw, failure, file
from tests.upstream import Upstream, as_step

#: What each recorded refusal means.
REFUSALS = {
    "image-error-400-response-format-unknown-01": UnsupportedParameter,
    "image-generations-error-400-01": UnsupportedParameter,
    "image-generations-error-401-01": ProviderRefusedUs,
}


EXCHANGES = [
    (recording, place)
    for recording in recordings.load("openai")
    for place, exchange in enumerate(recording.exchanges)
    if exchange["request"]["url"].endswith(PATH)
]


@pytest.mark.parametrize(
    "found",
    recordings.parameters(
        EXCHANGES, [f"{recording.case}-{place}" for recording, place in EXCHANGES]
    ),
)
def test_every_recording_passes_through(upstream: Upstream, tmp_path: Path, found: Any) -> None:
    recording, place = found
    response = recording.exchanges[place]["response"]
    body = json.loads(response["body"])
    for number, entry in enumerate(body.get("data", ())):
        if "url" in entry:
            # Where the image was has forgotten it.
            entry["url"] = f"{upstream.url}/{number}.png"
    upstream.script(
        as_step(response) | {"match": PATH, "body": json.dumps(body)}, default=file(".png")
    )

    if response["status"] != 200:
        error = failure(tmp_path)
        assert type(error) is REFUSALS[recording.case]
        assert body["error"]["message"] == error.message or recording.case.endswith("401-01")
        assert error.nothing_ran
        return

    drawn = draw(tmp_path, len(body["data"]))
    for entry, picture in zip(body["data"], drawn.pictures, strict=True):
        assert isinstance(picture, Picture)
        assert picture.revised_prompt == entry.get("revised_prompt")
        given = base64.b64decode(entry["b64_json"]) if "b64_json" in entry else PNG
        assert picture.path.read_bytes() == given
    assert drawn.usage == body.get("usage")
    assert upstream.counts()["received"] == 1 + sum("url" in entry for entry in body["data"])
