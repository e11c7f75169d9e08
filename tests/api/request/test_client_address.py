"""Where a request comes from: behind trusted proxies, and whom nobody believes."""

import json
from typing import Any

import pytest

from config import networks, settings
from tests.callers import fetch_from
from tests.conftest import ON_SQLITE, Server

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
