"""The documentation's requests as they come in, for the ids that it names."""

import http.client
import json
from urllib.parse import urlsplit

import pytest

from config.catalog.load import catalog
from tests.config.catalog.test_model import DOCUMENTED
from tests.conftest import ON_SQLITE, Server
from tests.stack import Account, fetch
from tests.upstream import Upstream

pytestmark = ON_SQLITE

IDS = [*DOCUMENTED, "deepseek-reasoner"]
HELLO = [{"role": "user", "content": "What is the capital of France?"}]

every_documented_id = pytest.mark.parametrize("model", IDS)


@every_documented_id
def test_a_body_that_names_no_type_is_read_as_json(
    server: Server, account: Account, upstream: Upstream, model: str
) -> None:
    address = urlsplit(server.api)
    connection = http.client.HTTPConnection(address.netloc, timeout=60)
    body = json.dumps({"model": model, "messages": HELLO})

    connection.request("POST", f"{address.path}/chat/completions?key={account.key}", body.encode())
    reply = connection.getresponse()
    answer = json.loads(reply.read())
    connection.close()

    assert reply.status == 200, answer
    assert answer["model"] == model
    assert answer["choices"][0]["message"]["content"]


@every_documented_id
def test_the_id_is_answered_by_each_provider_that_it_names(
    server: Server, account: Account, upstream: Upstream, model: str
) -> None:
    _, _, shown = fetch(f"{server.api}/models/{model}", key=account.key)
    providers = json.loads(shown)["providers"]
    example = {"model": model, "messages": HELLO, "temperature": 0.7, "max_tokens": 100}

    for provider in providers:
        status, headers, answer = fetch(
            f"{server.api}/chat/completions", example | {"provider": provider}, key=account.key
        )

        assert status == 200, answer
        assert headers["x-provider"] == provider

    assert providers == list(dict.fromkeys(r.provider for r in catalog.models[model].routes))


def test_the_list_says_of_every_model_what_it_takes(server: Server, account: Account) -> None:
    _, _, listed = fetch(f"{server.api}/models", key=account.key)

    for model in json.loads(listed)["data"]:
        assert model["takes"], model["id"]
        assert model["kind"] == "image" or isinstance(model["reasoning"], bool)

    _, _, one = fetch(f"{server.api}/models/x-ai/grok-4", key=account.key)
    assert (json.loads(one)["takes"], json.loads(one)["reasoning"]) == (None, None)
