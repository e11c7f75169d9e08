"""Images, as the official OpenAI SDK and a bare HTTP client see them, and what they cost."""

import base64
import http.client
import io
import json
from typing import Any

import openai
import pytest
from openai import OpenAI
from PIL import Image

from tests.conftest import ON_SQLITE, Server, provider_settings
from tests.stack import Account, fetch, stack, wait_until
from tests.upstream import Upstream
from tests.upstream_images import base64_png, png

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


def test_some_of_four_may_fail_and_the_others_are_delivered(
    server: Server, account: Account, upstream: Upstream
) -> None:
    failed = {"ends": "failed", "error": "NSFW content detected. Try a different prompt."}
    for course in ({}, {}, {"output": NOT_AN_IMAGE}, failed):
        upstream.script({"match": "/predictions", "prediction": course})

    status, headers, body = ask(server, account, FLUX | {"n": 4})

    assert status == 200
    assert len(body["data"]) == 2
    assert {look_at(datum["url"]) for datum in body["data"]} == {("PNG", (1024, 1024))}
    assert {error["error"]["code"] for error in body["errors"]} == {
        "provider_error",
        "content_policy_violation",
    }
    assert len({error["index"] for error in body["errors"]}) == 2
    assert body["credits_consumed"] == 20
    assert headers["x-credits-consumed"] == "20"
    assert account.standing() == (9_980, 0)


def test_if_all_fail_it_is_an_error_and_free(
    server: Server, account: Account, upstream: Upstream
) -> None:
    for _ in range(2):
        upstream.script({"prediction": {"ends": "failed", "error": "It broke."}})

    status, headers, body = ask(server, account, FLUX | {"n": 2})

    assert (status, body["error"]["code"]) == (502, "provider_error")
    assert headers["x-credits-consumed"] == "0"
    assert account.standing() == (10_000, 0)


@ON_SQLITE
@pytest.mark.parametrize(
    "refusal",
    [
        {"code": "content_policy_violation", "type": "invalid_request_error"},
        {"code": "moderation_blocked", "type": "image_generation_user_error"},
    ],
)
def test_a_refused_prompt_is_the_callers_to_change(
    server: Server, account: Account, upstream: Upstream, refusal: dict[str, str]
) -> None:
    told = refusal | {"message": "Your request was rejected by our safety system."}
    upstream.script({"status": 400, "json": {"error": told}})

    status, headers, body = ask(server, account, DALL_E)

    assert (status, body["error"]["code"]) == (400, "content_policy_violation")
    assert headers["x-should-retry"] == "false"
    assert account.standing() == (10_000, 0)
    assert len(upstream.calls()) == 1


#: (body, param, code)
IMPOSSIBLE: list[tuple[dict[str, Any], str, str]] = [
    ({"model": "dall-e-3"}, "prompt", "missing_required_parameter"),
    ({"prompt": CAT}, "model", "missing_required_parameter"),
    (DALL_E | {"prompt": "  "}, "prompt", "invalid_parameter"),
    (DALL_E | {"n": 5}, "n", "invalid_parameter"),
    (DALL_E | {"n": 0}, "n", "invalid_parameter"),
    (DALL_E | {"size": "big"}, "size", "invalid_parameter"),
    (DALL_E | {"quality": "best"}, "quality", "invalid_parameter"),
    (DALL_E | {"response_format": "png"}, "response_format", "invalid_parameter"),
    (DALL_E | {"stream": True}, "stream", "unsupported_parameter"),
    (DALL_E | {"size": "1000x1000"}, "size", "unsupported_parameter"),
    (FLUX | {"style": "vivid"}, "style", "unsupported_parameter"),
    (FLUX | {"model": "flux-schnell", "quality": "hd"}, "quality", "unsupported_parameter"),
    (FLUX | {"background": "transparent"}, "background", "unsupported_parameter"),
    (FLUX | {"negative_prompt": "dogs"}, "negative_prompt", "unsupported_parameter"),
    (FLUX | {"provider": "openai"}, "provider", "invalid_parameter"),
]


@ON_SQLITE
def test_what_cannot_be_done_is_refused_by_name(
    server: Server, account: Account, upstream: Upstream, subtests: pytest.Subtests
) -> None:
    for body, param, code in IMPOSSIBLE:
        with subtests.test(str(body)):
            status, _, said = ask(server, account, body)

            assert (status, said["error"]["code"], said["error"]["param"]) == (400, code, param)

    assert upstream.calls() == []
    assert account.standing() == (10_000, 0)


@ON_SQLITE
@pytest.mark.parametrize("model", ["gpt-4", "no-such-model", "openai/gpt-4.1"])
def test_a_model_that_makes_no_images_is_not_found(
    server: Server, account: Account, model: str
) -> None:
    status, _, body = ask(server, account, {"model": model, "prompt": CAT})

    assert (status, body["error"]["code"]) == (404, "model_not_found")


@ON_SQLITE
def test_a_model_that_makes_images_does_not_chat(server: Server, account: Account) -> None:
    body = {"model": "dall-e-3", "messages": [{"role": "user", "content": "Hello"}]}
    status, _, content = fetch(f"{server.api}/chat/completions", body, key=account.key)

    assert (status, json.loads(content)["error"]["code"]) == (404, "model_not_found")


def test_more_than_the_balance_is_refused_before_anybody_is_asked(
    server: Server, upstream: Upstream
) -> None:
    account = server.stack.account(credits=39)

    status, _, body = ask(server, account, DALL_E | {"n": 4})

    assert (status, body["error"]["code"]) == (402, "insufficient_credits")
    assert "40 credits" in body["error"]["message"]
    assert upstream.calls() == []


@ON_SQLITE
def test_unknown_parameters_go_to_openai_as_they_came(
    server: Server, account: Account, upstream: Upstream
) -> None:
    status, _, _ = ask(
        server, account, DALL_E | {"background": "transparent", "input_fidelity": "high"}
    )

    assert status == 200
    sent = upstream.calls()[0]["body"]
    assert (sent["background"], sent["input_fidelity"]) == ("transparent", "high")


@ON_SQLITE
@pytest.mark.parametrize(
    "step",
    [
        {"status": 502, "body": "<html>Bad gateway</html>"},
        {"status": 504, "json": {"error": {"message": "Late."}}},
        {"cut": -1},
        {"cut": 40},
    ],
)
def test_images_that_may_have_been_made_are_not_requested_again(
    server: Server, account: Account, upstream: Upstream, step: dict[str, Any]
) -> None:
    upstream.script(step | {"match": "/images/generations"})

    status, headers, _ = ask(server, account, DALL_E)

    assert status in (502, 504)
    assert headers["x-attempts"] == "1"
    assert len(upstream.calls()) == 1
    assert account.standing() == (10_000, 0)


@ON_SQLITE
@pytest.mark.parametrize(
    "step",
    [
        {"status": 500, "json": {"error": {"message": "Sorry.", "type": "server_error"}}},
        {"status": 503, "json": {"error": {"message": "Overloaded.", "type": "server_error"}}},
        {"status": 429, "headers": {"retry-after": "0"}, "json": {"error": {"message": "Slow."}}},
        {"status": 404, "json": {"error": {"code": "model_not_found", "message": "Gone."}}},
    ],
)
def test_images_that_were_certainly_not_made_are_requested_again(
    server: Server, account: Account, upstream: Upstream, step: dict[str, Any]
) -> None:
    upstream.script(step | {"match": "/images/generations"})

    status, headers, _ = ask(server, account, DALL_E)

    assert status == 200
    assert headers["x-attempts"] == "2"
    assert account.standing() == (9_990, 0)


def test_a_model_that_is_gone_is_made_up_for_by_its_next_route(
    server: Server, account: Account, upstream: Upstream
) -> None:
    gone = {"status": 404, "json": {"id": "1", "name": "not_found", "errors": ["No such model."]}}
    upstream.script(gone | {"match": "/v2beta/"}, gone | {"match": "/v2beta/"})

    status, headers, body = ask(server, account, {"model": "stable-diffusion-xl", "prompt": CAT})

    assert status == 200
    assert headers["x-upstream-model"] == "stable-diffusion-xl-1024-v1-0"
    assert look_at(body["data"][0]["url"])[1] == (1024, 1024)


def test_a_fallback_makes_what_the_model_cannot(
    server: Server, account: Account, upstream: Upstream
) -> None:
    gone = {"status": 404, "json": {"error": {"code": "model_not_found", "message": "Gone."}}}
    upstream.script(*[gone | {"match": "/openai/"}] * 2)

    status, headers, _ = ask(server, account, DALL_E | {"fallbacks": ["flux-pro"]})

    assert (status, headers["x-provider"]) == (200, "replicate")


def test_a_client_that_ends_its_call_ends_the_prediction(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script({"prediction": {"hold": True}})

    leave(server, account, upstream, FLUX | {"on_disconnect": "cancel"})

    wait_until(lambda: account.jobs()[0]["status"] == "cancelled", "the job is cancelled")
    paths = [call["path"] for call in upstream.calls()]
    assert sum(path.endswith("/cancel") for path in paths) == 1
    assert len(predictions(upstream)) == 1
    assert account.standing() == (10_000, 0)


def test_a_call_whose_client_leaves_is_fetched_as_a_job(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script({"prediction": {"hold": True}})

    leave(server, account, upstream, FLUX)
    upstream.release()

    wait_until(lambda: account.jobs()[0]["status"] == "completed", "the job is completed")
    job = json.loads(fetch(f"{server.api}/jobs/{account.jobs()[0]['id']}", key=account.key)[2])
    assert look_at(job["result"]["data"][0]["url"]) == ("PNG", (1024, 1024))
    assert account.standing() == (9_990, 0)


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


@ON_SQLITE
def test_the_sdk_raises_what_it_knows(server: Server, account: Account, upstream: Upstream) -> None:
    with (
        OpenAI(base_url=server.api, api_key=account.key, max_retries=0) as sdk,
        pytest.raises(openai.BadRequestError) as caught,
    ):
        sdk.images.generate(model="flux-schnell", prompt=CAT, quality="hd")

    assert caught.value.code == "unsupported_parameter"
    assert caught.value.param == "quality"


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
