"""How long an untrusted server may take, and that a call which ends asks it for no more."""

import threading
import time

import pytest

from models.errors import InvalidRequest, JobCancelled, ProviderTimeout
from net import lookups
from net.call import Call
from net.lookups import Lookups
from providers.wire import caller_images
from tests.net.untrusted.hosts import (
    CANCELLED,
    PNG,
    SLOW,
    Host,
    Names,
    Outcome,
    fetch,
    head,
    image,
    redirect,
    refusal,
)
from tests.upstream import Step, Upstream


@pytest.mark.parametrize("step", SLOW)
def test_an_image_comes_in_time_or_not_at_all(
    upstream: Upstream, local: None, hurried: None, step: Step
) -> None:
    upstream.script(step)

    assert refusal(upstream.url) == caller_images.LATE
    upstream.wait(aborted=1)


def test_the_redirects_are_part_of_the_time(upstream: Upstream, local: None, hurried: None) -> None:
    upstream.script(*[redirect("/next") | {"delay": 0.4}] * 3, image())

    assert refusal(upstream.url) == caller_images.LATE


def test_headers_that_trickle_are_part_of_the_time(local: None, hurried: None) -> None:
    with Host(head("a: " + "b" * 200) + PNG, gap=0.02) as host:
        assert refusal(host.url()) == caller_images.LATE


def test_the_look_up_is_part_of_the_time(names: Names, hurried: None) -> None:
    assert refusal("http://silent.example/") == caller_images.LATE


def test_a_look_up_ends_with_the_deadline_of_its_call(names: Names) -> None:
    with pytest.raises(ProviderTimeout):
        lookups.resolve(Call(0.1), "silent.example", 80)

    # The look-up itself has not ended, and would not.
    assert names.begun.is_set() and not names.end.is_set()


def test_names_that_nobody_answers_for_take_few_threads_and_one_for_each_source(
    names: Names, hurried: None
) -> None:
    sources = [f"account {number}" for number in range(2 * lookups.MAX_LOOKUPS)]
    outcomes = [
        Outcome(Call(60, source), "http://silent.example/") for source in sources for _ in range(3)
    ]

    for outcome in outcomes:
        assert isinstance(outcome.at_last(), InvalidRequest)
    assert len(names.asked) == lookups.MAX_LOOKUPS
    assert len(looking_up("silent.example")) == lookups.MAX_LOOKUPS

    names.end.set()
    for thread in looking_up("silent.example"):
        thread.join()
    # Nobody waits for the others any more.
    assert len(names.asked) == lookups.MAX_LOOKUPS


def looking_up(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == f"look up {name}"]


def test_a_source_whose_names_hang_keeps_no_other_waiting(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caller_images, "FETCH_SECONDS", 60.0)
    greedy = [Outcome(Call(60, "greedy"), "http://silent.example/") for _ in range(9)]
    names.begun.wait()
    names.say("inside.example", ["10.0.0.1"])

    assert refusal("http://inside.example/", Call(60, "other")) == caller_images.NOT_PUBLIC
    # Nor is its own address looked up in a queue, or at all.
    assert refusal("http://10.0.0.1/", Call(60, "greedy")) == caller_images.NOT_PUBLIC

    assert names.asked == ["silent.example", "inside.example"]
    for outcome in greedy:
        assert outcome.after_abort() is CANCELLED


def test_sources_take_turns(names: Names) -> None:
    first = Lookups(1, max_of_a_source=1)
    names.say("a.example", ["10.0.0.1"])

    def look_up(source: str, host: str) -> threading.Thread:
        thread = threading.Thread(target=first.resolve, args=(Call(60, source), host, 80))
        thread.start()
        return thread

    threads = [look_up("a", "silent.example")]
    names.begun.wait()
    for source in "aabc":
        threads.append(look_up(source, f"{source}.example"))
        while sum(map(len, first._waiting.values())) < len(threads) - 1:
            time.sleep(0)
    names.end.set()
    for thread in threads:
        thread.join()

    assert names.asked == ["silent.example", "a.example", "b.example", "c.example", "a.example"]


@pytest.mark.parametrize("step", SLOW)
def test_the_deadline_of_the_call_is_the_calls_own(
    upstream: Upstream, local: None, step: Step
) -> None:
    upstream.script(step)

    with pytest.raises(ProviderTimeout):
        fetch(upstream.url, Call(1))

    upstream.wait(aborted=1)


def test_a_call_that_is_over_asks_for_nothing(
    names: Names,
) -> None:
    aborted = Call(60)
    aborted.abort(CANCELLED)

    with pytest.raises(JobCancelled):
        fetch("http://images.example/", aborted)
    with pytest.raises(ProviderTimeout):
        fetch("http://images.example/", Call(0))

    assert names.asked == []
