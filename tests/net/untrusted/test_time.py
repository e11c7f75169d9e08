"""How long an untrusted server may take, and that a call which ends asks it for no more."""

import threading

import pytest

from models.errors import InvalidRequest, JobCancelled, ProviderTimeout
from net import untrusted
from net.call import Call
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
        untrusted.resolve(Call(0.1), "silent.example", 80)

    # The look-up itself has not ended, and would not.
    assert names.begun.is_set() and not names.end.is_set()


def test_names_that_nobody_answers_for_take_few_threads(names: Names, hurried: None) -> None:
    outcomes = [
        Outcome(Call(60), "http://silent.example/") for _ in range(3 * untrusted.MAX_LOOKUPS)
    ]

    for outcome in outcomes:
        assert isinstance(outcome.at_last(), InvalidRequest)
    assert len(names.asked) == untrusted.MAX_LOOKUPS

    waiting = [
        thread for thread in threading.enumerate() if thread.name == "look up silent.example"
    ]
    assert len(waiting) == len(outcomes)
    names.end.set()
    for thread in waiting:
        thread.join()
    assert len(names.asked) == untrusted.MAX_LOOKUPS


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
