"""Retries through proxies that cut and workers that die."""

import threading

import pytest
from openai import OpenAI

from tests.api.request.asking import retry
from tests.callers import HELLO
from tests.conftest import LONG_ON_POSTGRESQL, ONE_DATABASE, provider_settings
from tests.servers.proxy import cutting
from tests.stack import Stack, fetch, stack, wait_until
from tests.upstream import Upstream


@ONE_DATABASE
@pytest.mark.slow
def test_a_proxy_that_cuts_is_no_hindrance_and_neither_is_a_workers_death(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script({"delay": 60})
    fresh_stack.web(sync_wait_seconds=0)
    doomed, account = fresh_stack.worker(), fresh_stack.account()
    fresh_stack.worker()

    def kill() -> None:
        upstream.wait(received=1)
        running = fresh_stack.query("SELECT worker FROM jobs")[0][0]
        next(w for w in fresh_stack.workers if f"-{w.pid}-" in running).kill()

    threading.Thread(target=kill).start()
    # The first two connections are cut; the third lasts until the lease of the dead is over.
    with (
        cutting(fresh_stack.ports[0], seconds=10) as port,
        OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=account.key) as sdk,
    ):
        answer = sdk.chat.completions.create(**HELLO)  # type: ignore[call-overload]  # a dict of arguments

    assert answer.choices[0].message.content == "Hello from upstream."
    assert doomed.child.poll() is not None or fresh_stack.workers[1].child.poll() is not None
    assert len(account.jobs()) == 1
    assert account.standing() == (999, 0)


@LONG_ON_POSTGRESQL
@pytest.mark.slow
def test_a_workers_death_between_a_call_and_its_retry_costs_nothing(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    upstream.script({"delay": 60})
    web, doomed = fresh_stack.web(sync_wait_seconds=2), fresh_stack.worker()
    account = fresh_stack.account()

    assert retry(web, account, 0)[0] == 503
    doomed.kill()
    fresh_stack.worker()
    # Until the lease is over nobody takes the job up, so this one may be relayed, too.
    while (reply := retry(web, account, 1))[0] == 503:
        fresh_stack.change("UPDATE jobs SET joined = 0")

    assert reply[0] == 200
    assert account.standing() == (999, 0)
    assert len(account.jobs()) == 1


@pytest.mark.slow
def test_a_relayed_call_that_is_not_retried_is_cancelled_while_queued(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    web = fresh_stack.web(sync_wait_seconds=1)
    account = fresh_stack.account()
    assert retry(web, account, 0)[0] == 503
    fresh_stack.change("UPDATE jobs SET left_at = left_at - 60")

    fresh_stack.worker()
    wait_until(lambda: account.jobs()[0]["status"] in ("cancelled", "completed"), "it has ended")

    assert account.standing()[1] == 0


def test_sync_relay_can_be_switched_off(upstream: Upstream) -> None:
    with stack(**provider_settings(upstream), sync_wait_seconds=1, sync_relay=0) as own:
        url, account = own.web(), own.account()
        own.worker()
        upstream.script({"delay": 2})

        status, _, content = fetch(
            f"{url}/v1/chat/completions",
            HELLO,
            key=account.key,
            headers={"x-stainless-retry-count": "0"},
        )

    assert (status, content[:1]) == (200, b"\n")
