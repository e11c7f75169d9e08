"""Images, as the official OpenAI SDK and a bare HTTP client see them, and what they cost."""

import base64
import http.client
import json

import pytest
from openai import OpenAI

from tests.api.image.asking import CAT, DALL_E, DOCUMENTED, FLUX, ask, job_of, look_at, opened
from tests.conftest import ON_SQLITE, Server, provider_settings
from tests.stack import Account, fetch, stack
from tests.upstream import Upstream
from tests.upstream.images import base64_png, png


@ON_SQLITE
@pytest.mark.parametrize("model", DOCUMENTED)
def test_the_sdk_gets_a_link_to_the_image_that_it_asked_for(
    server: Server, account: Account, upstream: Upstream, model: str
) -> None:
    with OpenAI(base_url=server.api, api_key=account.key, max_retries=0) as sdk:
        raw = sdk.images.with_raw_response.generate(
            model=model, prompt=CAT, size="512x512", n=1, quality="standard"
        )
    answer = raw.parse()

    assert answer.data is not None and len(answer.data) == 1
    assert answer.data[0].url is not None and answer.data[0].url.startswith(f"{server.url}/media/")
    assert look_at(answer.data[0].url) == ("PNG", (512, 512))
    assert raw.headers["x-provider"] == DOCUMENTED[model]
    assert raw.headers["x-credits-consumed"] == "10"
    assert account.standing() == (9_990, 0)
    assert account.entries() == [("grant", 10_000), ("charge", -10)]


@ON_SQLITE
@pytest.mark.parametrize("size", ["256x256", "512x512", "1024x1024"])
@pytest.mark.parametrize("model", ["dall-e-2", "flux-schnell", "stable-diffusion-xl"])
def test_every_model_has_the_documented_sizes(
    server: Server, account: Account, upstream: Upstream, model: str, size: str
) -> None:
    _, _, body = ask(server, account, {"model": model, "prompt": CAT, "size": size})

    width, height = map(int, size.split("x"))
    assert look_at(body["data"][0]["url"])[1] == (width, height)


@ON_SQLITE
@pytest.mark.parametrize(
    ("model", "size"),
    [("dall-e-3", "1792x1024"), ("gpt-image-2", "2048x1152"), ("flux-schnell", "768x1344")],
)
def test_other_sizes_are_there_where_the_model_has_them(
    server: Server, account: Account, upstream: Upstream, model: str, size: str
) -> None:
    _, _, body = ask(server, account, {"model": model, "prompt": CAT, "size": size})

    width, height = map(int, size.split("x"))
    assert look_at(body["data"][0]["url"])[1] == (width, height)


@ON_SQLITE
@pytest.mark.parametrize("model", DOCUMENTED)
def test_four_images_are_four_images_and_cost_four_times_as_much(
    server: Server, account: Account, upstream: Upstream, model: str
) -> None:
    status, headers, body = ask(server, account, {"model": model, "prompt": CAT, "n": 4})

    assert status == 200
    urls = [datum["url"] for datum in body["data"]]
    assert len(set(urls)) == 4
    assert {look_at(url) for url in urls} == {("PNG", (1024, 1024))}
    assert "errors" not in body
    assert body["credits_consumed"] == 40
    assert account.standing() == (9_960, 0)
    job = job_of(server, account, headers)
    assert job["progress"] == {"completed": 4, "total": 4}
    assert [datum["url"] for datum in job["result"]["data"]] == urls


def test_hd_costs_more_and_asks_for_more(
    server: Server, account: Account, upstream: Upstream
) -> None:
    _, _, body = ask(server, account, DALL_E | {"quality": "hd", "n": 2})

    assert body["credits_consumed"] == 30
    assert upstream.calls()[0]["body"]["quality"] == "high"
    assert upstream.calls()[0]["body"]["n"] == 2


def test_base64_is_the_file_that_is_stored(
    server: Server, account: Account, upstream: Upstream
) -> None:
    status, headers, body = ask(
        server, account, DALL_E | {"response_format": "b64_json", "n": 2, "size": "256x256"}
    )

    assert status == 200
    assert [set(datum) for datum in body["data"]] == [{"b64_json"}] * 2
    images = [base64.b64decode(datum["b64_json"], validate=True) for datum in body["data"]]
    assert [opened(image) for image in images] == [("PNG", (256, 256))] * 2
    assert "response_format" not in upstream.calls()[0]["body"]
    assert job_of(server, account, headers)["result"] == body


def test_a_model_whose_vendor_answers_base64_gives_both(
    server: Server, account: Account, upstream: Upstream
) -> None:
    _, _, body = ask(server, account, {"model": "gpt-image-2", "prompt": CAT})

    image = base64.b64decode(body["data"][0]["b64_json"])
    assert image == fetch(body["data"][0]["url"])[2]
    assert body["usage"]["total_tokens"] == 110


@ON_SQLITE
@pytest.mark.parametrize(("name", "kind"), [("jpeg", "JPEG"), ("webp", "WEBP"), ("png", "PNG")])
def test_the_format_is_the_callers_choice_with_every_model(
    server: Server, account: Account, upstream: Upstream, name: str, kind: str
) -> None:
    _, _, body = ask(server, account, FLUX | {"output_format": name})

    assert look_at(body["data"][0]["url"])[0] == kind


@ON_SQLITE
def test_a_revised_prompt_is_passed_on(
    server: Server, account: Account, upstream: Upstream
) -> None:
    datum = {"b64_json": base64_png(), "revised_prompt": "A tabby cat."}
    upstream.script({"json": {"created": 1, "data": [datum]}})

    _, _, body = ask(server, account, DALL_E)

    assert body["data"][0]["revised_prompt"] == "A tabby cat."


@ON_SQLITE
def test_a_style_that_the_successor_lacks_is_said_in_words(
    server: Server, account: Account, upstream: Upstream
) -> None:
    status, _, _ = ask(server, account, DALL_E | {"style": "natural"})

    assert status == 200
    sent = upstream.calls()[0]["body"]
    assert "style" not in sent
    assert sent["prompt"].startswith(CAT) and "natural" in sent["prompt"]


@ON_SQLITE
def test_the_catalogue_says_what_image_models_make_and_cost(
    server: Server, account: Account
) -> None:
    status, _, content = fetch(f"{server.api}/models/dall-e-3", key=account.key)

    model = json.loads(content)
    assert status == 200
    assert (model["kind"], model["successor"]) == ("image", "gpt-image-2")
    assert model["pricing"] == {"unit": "credits per image", "standard": 10, "hd": 15}
    assert model["providers"] == ["openai"]
    assert {"256x256", "512x512", "1024x1024"} <= set(model["takes"]["sizes"])
    assert model["takes"]["styles"] == ["natural", "vivid"]
    listed = json.loads(fetch(f"{server.api}/models", key=account.key)[2])["data"]
    assert set(DOCUMENTED) <= {each["id"] for each in listed}


@ON_SQLITE
def test_the_catalogue_says_what_hd_costs_where_it_can_be_had(
    server: Server, account: Account
) -> None:
    listed = json.loads(fetch(f"{server.api}/models", key=account.key)[2])["data"]

    for model in (each for each in listed if each["kind"] == "image"):
        body = {"model": model["id"], "prompt": CAT, "quality": "hd"}
        _, _, content = fetch(f"{server.api}/estimate", body, key=account.key)
        assert json.loads(content).get("max_credits") == model["pricing"]["hd"]
        assert ("hd" in model["takes"]["qualities"]) == (model["pricing"]["hd"] is not None)


@ON_SQLITE
def test_an_image_has_a_type_and_may_be_kept_by_whoever_fetches_it(
    server: Server, account: Account, upstream: Upstream
) -> None:
    _, _, body = ask(server, account, FLUX)

    status, headers, content = fetch(body["data"][0]["url"])

    assert (status, headers["content-type"]) == (200, "image/png")
    assert "max-age=" in headers["cache-control"]
    # Whoever guesses finds nothing, and nothing of the provider's is left in the file.
    assert fetch(body["data"][0]["url"].replace(".png", "x.png"))[0] == 404
    assert content != png()


@pytest.mark.slow
def test_a_slow_image_comes_after_newlines(upstream: Upstream) -> None:
    with stack(**provider_settings(upstream), sync_wait_seconds=1) as own:
        address, caller = own.web(), own.account()
        own.worker()
        upstream.script({"prediction": {"hold": True}})
        connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
        connection.request(
            "POST",
            "/v1/images/generations",
            json.dumps(FLUX),
            {"Authorization": f"Bearer {caller.key}"},
        )
        reply = connection.getresponse()

        assert (reply.status, reply.read(1)) == (200, b"\n")
        upstream.release()
        body = json.loads(reply.read())
        connection.close()

        assert look_at(body["data"][0]["url"])[1] == (1024, 1024)
        assert caller.standing() == (990, 0)
