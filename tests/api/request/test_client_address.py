"""Where a request comes from: behind trusted proxies, and whom nobody believes."""

import json
from collections import Counter
from typing import Any

import pytest

from config import networks, settings
from tests.callers import fetch_from
from tests.conftest import ON_SQLITE, Server
from tests.stack import fetch

PICTURE = {"model": "sandbox/image", "prompt": "A sunset.", "size": "256x256"}


@ON_SQLITE
def test_only_trusted_proxies_say_where_a_request_comes_from(server: Server) -> None:
    account = server.stack.account(addresses=["203.0.113.7/32"])
    owner = server.stack.account()
    web = server.stack.web(trusted_proxies="127.0.0.2, 10.0.0.0/8")

    def credits(peer: str, forwarded: str) -> int:
        url = f"{web}/v1/credits"
        return fetch_from(peer, url, account.key, X_Forwarded_For=forwarded)[0]

    def link(peer: str, **headers: str) -> Any:
        _, _, body = fetch_from(peer, f"{web}/v1/images/generations", owner.key, PICTURE, **headers)
        return json.loads(body)["data"][0]["url"]

    forged = {"X_Forwarded_Proto": "https", "X_Forwarded_Host": "evil.example"}
    proxied, direct = link("127.0.0.2", **forged), link("127.0.0.3", **forged)

    assert credits("127.0.0.2", "203.0.113.7") == 200
    assert credits("127.0.0.2", "198.51.100.1, 203.0.113.7:4711, 10.1.2.3") == 200
    # A stranger says it; a client of the proxy says it; nobody does; it is not readable.
    assert credits("127.0.0.3", "203.0.113.7") == 403
    assert credits("127.0.0.2", "203.0.113.7, 198.51.100.1") == 403
    assert credits("127.0.0.2", "") == 403
    assert credits("127.0.0.2", "203.0.113.7, unknown") == 403
    host = web.removeprefix("http://")
    assert proxied.startswith(f"https://{host}/media/")
    assert direct.startswith(f"http://{host}/media/")
    server.stack.webs[-1].stop()


def test_a_platforms_routers_are_trusted_where_nothing_else_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert settings.load().proxies == ()

    monkeypatch.setenv("DYNO", "web.1")
    platforms = settings.load().proxies
    monkeypatch.setenv("TRUSTED_PROXIES", "192.0.2.1")
    named = settings.load().proxies
    monkeypatch.setenv("TRUSTED_PROXIES", "none")
    nobody = settings.load().proxies
    monkeypatch.setenv("TRUSTED_PROXIES", "proxy.example")

    for text, is_router in {"10.1.2.3": True, "fd00::1": True, "8.8.8.8": False}.items():
        address = networks.address(text)
        assert address is not None and networks.contain(platforms, address) is is_router
    assert (named, nobody) == (networks.read("192.0.2.1/32"), ())
    with pytest.raises(settings.InvalidSettings, match="TRUSTED_PROXIES: 'proxy.example' is no"):
        settings.load()


@ON_SQLITE
def test_who_tries_many_keys_is_refused_for_the_rest_of_a_minute(server: Server) -> None:
    url, attacker = f"{server.api}/credits", "127.0.0.21"
    known, unknown = server.stack.account(), server.stack.account()
    assert fetch_from(attacker, url, known.key)[0] == 200

    replies = [fetch_from(attacker, url, f"lk-guess-{number}") for number in range(110)]
    by_query = fetch(f"{url}?key=lk-guess-110")

    assert Counter(status for status, _, _ in replies) == {401: 100, 429: 10}
    assert by_query[0] == 401  # It came from another address.
    status, headers, body = fetch_from(attacker, url, unknown.key)
    error = json.loads(body)["error"]
    assert (status, error["type"], error["code"]) == (429, *RATE_LIMIT)
    assert 0 < int(headers["retry-after"]) <= 60 and headers["x-should-retry"] == "true"
    assert fetch_from(attacker, url, known.key)[0] == 200
    assert fetch(url, key=unknown.key)[0] == 200
    # Now this process knows it, and where it is used from does not matter.
    assert fetch_from(attacker, url, unknown.key)[0] == 200
    said = server.stack.webs[0].said()
    assert said.count("event=authentication.blocked address=127.0.0.21") == 1
    assert "lk-" not in said


RATE_LIMIT = ("rate_limit_error", "rate_limit_exceeded")
