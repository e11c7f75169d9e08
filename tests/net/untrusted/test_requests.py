"""What is said to an untrusted server, where it may send us, and how it proves its name."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from net import connection as net_connection
from providers.wire import caller_images
from tests.net.untrusted.hosts import PNG, Host, Names, fetch, head, image, plain, redirect, refusal
from tests.upstream import Upstream

# ---- What is sent


def test_a_request_says_nothing_of_us_or_the_caller(
    upstream: Upstream, local: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    cookie = {"set-cookie": "a=b; Path=/", "location": "/b"}
    upstream.script({"status": 302, "headers": cookie}, image())

    fetch(f"{upstream.url}/a")

    assert upstream.counts()["received"] == 2
    for call in upstream.calls():
        assert (call["method"], call["body"]) == ("GET", None)
        assert call["headers"] == {
            "host": f"127.0.0.1:{upstream.port}",
            "accept": "image/*",
            "accept-encoding": "identity",
            "user-agent": "likedo/1",
        }


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_of_the_environment_is_not_used(
    upstream: Upstream, local: None, names: Names, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    names.say("images.example", ["127.0.0.1"])
    upstream.script(image())

    assert fetch(f"http://images.example:{upstream.port}/").data == PNG
    assert upstream.calls()[0]["target"] == "/"


# ---- Where it leads


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed(upstream: Upstream, local: None, status: int) -> None:
    upstream.script(redirect("b?c#d", status), image())

    assert fetch(f"{upstream.url}/x/a").data == PNG
    assert [call["path"] for call in upstream.calls()] == ["/x/a", "/x/b?c"]


def test_a_redirect_may_be_written_in_any_bytes(upstream: Upstream, local: None) -> None:
    upstream.script(redirect("/ä%20b?c=€%2F"), image())

    assert fetch(upstream.url).data == PNG
    assert upstream.calls()[1]["path"] == "/%C3%A4%20b?c=%E2%82%AC%2F"


def test_a_third_redirect_is_followed_and_no_fourth(upstream: Upstream, local: None) -> None:
    upstream.script(*[redirect("/next")] * 3, image())
    assert fetch(upstream.url).data == PNG

    upstream.script(*[redirect("/next")] * 4, image())
    assert "more than 3 times" in refusal(upstream.url)
    assert upstream.counts()["received"] == 8


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("http://127.0.0.2:{port}/", "no public address"),
        ("http://10.0.0.1/", "no public address"),
        ("//169.254.169.254/latest/meta-data", "no public address"),
        ("http://inside.example:{port}/", "no public address"),
        ("http://127.1:{port}/", "no valid host"),
        ("http://a:b@127.0.0.1:{port}/", "user name"),
        ("file:///etc/passwd", "http:// or https://"),
        ("gopher://127.0.0.1:{port}/", "http:// or https://"),
        ("http://127.0.0.1:{port}/a b", "space"),
        ("http://[", "not a valid URL"),
        ("http://127.0.0.1:99999/", "not a valid URL"),
        ("", "nowhere"),
    ],
)
def test_where_a_redirect_leads_is_checked_anew(
    upstream: Upstream, local: None, names: Names, location: str, told: str
) -> None:
    names.say("inside.example", ["127.0.0.2"])
    location = location.format(port=upstream.port)
    upstream.script(redirect(location), image())

    message = refusal(upstream.url)

    assert told in message
    assert not location or location not in message
    assert upstream.counts()["received"] == 1


def test_a_name_that_moves_inside_between_redirects_is_refused(
    upstream: Upstream, local: None, names: Names
) -> None:
    names.say("images.example", ["127.0.0.1"], ["127.0.0.2"])
    upstream.script(redirect("/b"), image())

    assert "no public address" in refusal(f"http://images.example:{upstream.port}/")
    assert upstream.counts()["received"] == 1


# ---- TLS


@pytest.fixture
def trusted(
    certificate: tuple[Path, Path], names: Names, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Path, Path]]:
    """A certificate for `images.example` that the environment trusts."""
    for name in ("images.example", "other.example"):
        names.say(name, ["127.0.0.1"])
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    net_connection.close_idle_connections()
    yield certificate
    net_connection.close_idle_connections()


def test_a_certificate_is_verified_against_the_name_and_not_the_address(
    local: None, trusted: tuple[Path, Path]
) -> None:
    with Host(plain(PNG), files=trusted) as host:
        assert fetch(host.url("images.example")).data == PNG
        assert fetch(host.url("127.0.0.1")).data == PNG
        assert refusal(host.url("other.example")) == caller_images.UNREACHABLE

    assert len(host.requests) == 2


def test_a_certificate_that_nobody_vouches_for_is_refused(
    local: None, trusted: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    net_connection.close_idle_connections()

    with Host(plain(PNG), files=trusted) as host:
        assert refusal(host.url("images.example")) == caller_images.UNREACHABLE

    assert host.requests == []


def test_a_redirect_may_lead_to_https_and_not_back(
    upstream: Upstream, local: None, trusted: tuple[Path, Path]
) -> None:
    upstream.script(default=image())
    with Host(head(f"location: {upstream.url}/b", status=302), files=trusted) as host:
        upstream.script(redirect(host.url("images.example")))

        assert "from https to http" in refusal(upstream.url)

    assert [len(host.requests), upstream.counts()["received"]] == [1, 1]
