"""Images named by URL: how many, and how large, for one request and in one process."""

import json
import threading
from typing import Any

import pytest

from config.settings import settings
from models.errors import InvalidRequest, JobCancelled, Overloaded
from net import public_hosts
from net.call import Call
from providers.gemini.chat import Gemini
from providers.wire import image_room
from providers.wire.image_room import FULL, SHARE_USED, Room, this_process
from tests.net.untrusted.hosts import PARAM, PNG, Outcome, image
from tests.providers.gemini.asking import FLASH, user
from tests.providers.requests_and_routes import chat, route
from tests.upstream import Upstream, gemini_said

WAY = route("gemini", model=FLASH)
ANSWER = gemini_said("Nice.", "STOP")
KB = 1000


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let 127.0.0.1 be public, a request's images have 100 KB, and those of a process 150."""
    monkeypatch.setattr(public_hosts, "is_allowed", lambda address: str(address) == "127.0.0.1")
    monkeypatch.setattr(settings, "image_url_request_bytes", 100 * KB)
    monkeypatch.setattr(settings, "image_url_bytes", 150 * KB)
    monkeypatch.setattr(image_room, "FIRST_BYTES", 30 * KB)


def showing(*urls: str) -> Any:
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return chat(messages=[user(parts)])


def png(size: int) -> Any:
    return image(PNG.ljust(size, b"."))


def test_so_many_are_fetched_for_a_request_and_no_more() -> None:
    urls = [f"https://images.example/{number}.png" for number in range(17)]
    data = ["data:image/png;base64,aGk="] * 50

    Gemini().check(showing(*urls[:16], *data), WAY)
    with pytest.raises(InvalidRequest, match="at most 16 are fetched") as refused:
        Gemini().check(showing(*data, *urls), WAY)

    assert refused.value.param == "messages[0].content[66]"


def test_those_of_a_request_have_so_many_bytes_together(upstream: Upstream) -> None:
    upstream.script(png(60 * KB), png(40 * KB), {"json": ANSWER}, png(60 * KB), png(41 * KB))
    request = showing(f"{upstream.url}/a.png", f"{upstream.url}/b.png")

    Gemini().complete(request, WAY, None, "a-key", Call(60))
    with pytest.raises(InvalidRequest, match="larger together") as refused:
        Gemini().complete(request, WAY, None, "a-key", Call(60))

    assert refused.value.param == "messages[0].content[1].image_url.url"
    assert [call["path"] for call in upstream.calls()].count("/b.png") == 2
    assert this_process.taken == 0


def test_they_take_room_until_the_provider_has_read_them(upstream: Upstream) -> None:
    upstream.script(png(60 * KB), {"events": [json.dumps(ANSWER)], "body_delay": 60})
    call, taken = Call(60), []
    chunks = Gemini().stream(showing(f"{upstream.url}/a.png"), WAY, None, "a-key", call)

    def read() -> None:
        with pytest.raises(JobCancelled):
            list(chunks)

    reader = threading.Thread(target=read)
    reader.start()
    upstream.wait(received=2)
    while not taken or taken[-1]:
        taken.append(this_process.taken)

    call.abort(JobCancelled("Enough."))
    reader.join()
    assert taken[-1] == 0


def test_a_process_has_room_for_so_many_and_a_source_for_its_share(upstream: Upstream) -> None:
    upstream.script(default=png(30 * KB))
    with Room(Call(60, "greedy"), images=9) as mine:
        mine.begin(0, PARAM)
        with pytest.raises(Overloaded) as refused, Room(Call(1.1, "greedy")) as another:
            another.reserve(30 * KB)
        assert (refused.value.message, refused.value.retryable) == (SHARE_USED, True)

        with Room(Call(60, "other")) as other:
            other.begin(30 * KB, PARAM)
            with pytest.raises(Overloaded) as refused, Room(Call(1.1, "third")) as third:
                third.reserve(30 * KB)
            assert (refused.value.message, refused.value.retryable) == (FULL, True)

            waiting = Outcome(Call(60, "third"), f"{upstream.url}/a.png")
        # The other one has left, so the waiting one is let in.
        assert waiting.at_last() is None

    assert this_process.taken == 0


@pytest.mark.parametrize("framing", [{}, {"chunked": True}], ids=["announced", "in chunks"])
def test_larger_ones_take_turns_and_none_fails(upstream: Upstream, framing: Any) -> None:
    upstream.script(default=png(90 * KB) | framing)

    outcomes = [Outcome(Call(60, f"{number}"), f"{upstream.url}/a.png") for number in range(6)]

    assert [outcome.at_last() for outcome in outcomes] == [None] * 6
    assert this_process.taken == 0
