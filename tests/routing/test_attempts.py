"""The table of what follows an error: each row, by the calls that go upstream."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from config.settings import settings
from models.errors import (
    ContentPolicyViolation,
    InvalidRequest,
    JobCancelled,
    LikeDoError,
    ProviderBusy,
    ProviderFailed,
    ProviderRefusedUs,
    ProviderTimeout,
    UnsupportedParameter,
)
from net import connection
from routing import attempts, keys
from tests.routing.asked import (
    BROKEN,
    BUSY,
    DOWN,
    GONE,
    HELLO,
    OPENAI,
    REFUSED,
    TOO_LONG,
    WAYS,
    Asked,
    asked_for,
    breaker,
    failing,
    keys_used,
)
from tests.upstream import Upstream


@pytest.fixture
def vendors(upstream: Upstream, store: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Upstream]:
    """Every vendor, as one server, with one key each; nothing is known of any."""
    for name in ("openai", "gemini", "deepseek", "openrouter"):
        monkeypatch.setattr(settings, f"{name}_base_url", f"{upstream.url}/{name}")
        monkeypatch.setattr(settings, f"{name}_api_key", f"sk-{name}")
    monkeypatch.setattr(attempts, "FIRST_PAUSE_SECONDS", 0.02)
    yield upstream
    connection.close_idle_connections()


def test_an_answer_at_once_is_one_call(vendors: Upstream) -> None:
    asked = Asked(HELLO)

    assert asked.answer()["choices"]

    assert asked_for(vendors) == WAYS[:1]
    [record] = asked.trail
    assert (record["provider"], record["upstream_model"], record["error"]) == (
        "openai",
        "gpt-4.1",
        None,
    )
    assert record["seconds"] is not None


# ---- The rows: what follows, where there is another way and where there is none


@pytest.mark.parametrize("step", [BROKEN, failing(502), failing(529), DOWN, {"body": "<html>"}])
def test_a_failure_is_tried_once_more_and_then_elsewhere(
    vendors: Upstream, step: dict[str, Any]
) -> None:
    vendors.script(step, step)

    assert Asked(HELLO).answer()["choices"]

    assert asked_for(vendors) == ["gpt-4.1", "gpt-4.1", "gpt-6-sol"]


@pytest.mark.parametrize("step", [BROKEN, DOWN, {"json": {}}])
def test_a_failure_with_no_other_way_is_tried_three_times(
    vendors: Upstream, step: dict[str, Any]
) -> None:
    vendors.script(default=step)
    asked = Asked(OPENAI)

    assert type(asked.fails()) is ProviderFailed

    assert len(vendors.calls()) == 3
    assert [record["error"] for record in asked.trail] == ["provider_error"] * 3
    assert asked.told == 3
    assert breaker().failures_in_a_row == 3


def test_where_nobody_answers_every_way_was_tried(vendors: Upstream) -> None:
    vendors.script(default=BROKEN)

    assert type(Asked(HELLO).fails()) is ProviderFailed

    assert asked_for(vendors) == [
        *("gpt-4.1", "gpt-4.1", "gpt-6-sol", "gpt-6-sol"),
        *["openai/gpt-4.1"] * 3,
    ]


def test_a_time_out_is_followed_by_another_way_at_once(vendors: Upstream) -> None:
    vendors.script(failing(504))

    assert Asked(HELLO).answer()["choices"]

    assert asked_for(vendors) == ["gpt-4.1", "gpt-6-sol"]
    assert breaker().error_rate == 1


def test_a_time_out_with_no_other_way_is_tried_once_more(vendors: Upstream) -> None:
    vendors.script(default=failing(504))

    assert type(Asked(OPENAI).fails()) is ProviderTimeout

    assert len(vendors.calls()) == 2


def test_an_answer_that_takes_too_long_leaves_time_for_another(vendors: Upstream) -> None:
    vendors.script({"delay": 60})

    assert Asked(HELLO, seconds=4).answer()["choices"]

    assert asked_for(vendors) == ["gpt-4.1", "gpt-6-sol"]


def test_a_call_whose_time_is_up_is_not_tried_again(vendors: Upstream) -> None:
    vendors.script(default={"delay": 60})

    assert type(Asked(OPENAI, seconds=1).fails()) is ProviderTimeout

    assert len(vendors.calls()) == 1


def test_a_refused_key_is_off_and_the_next_one_is_used(
    vendors: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "openai_api_key", "sk-1,sk-2")
    vendors.script(REFUSED)

    assert Asked(OPENAI).answer()["choices"]
    assert Asked(OPENAI).answer()["choices"]

    refused, *used = keys_used(vendors)
    assert set(used) == {"sk-1", "sk-2"} - {refused}
    assert (breaker(key=refused).state, breaker(key=refused).reason) == ("open", "refused")
    assert breaker(key=used[0]).state == "closed"


def test_where_every_key_is_refused_another_way_is_asked(vendors: Upstream) -> None:
    vendors.script(REFUSED)

    assert Asked(HELLO).answer()["choices"]

    # OpenAI's second model would be refused with the same key.
    assert asked_for(vendors) == ["gpt-4.1", "openai/gpt-4.1"]


def test_a_refusal_that_may_be_about_one_model_does_not_switch_the_key_off(
    vendors: Upstream,
) -> None:
    vendors.script(failing(403))

    assert Asked(HELLO).answer()["choices"]

    assert breaker().state == "closed"
    assert breaker().failures_in_a_row == 1


def test_a_refused_key_with_no_other_way_is_the_operators_matter(vendors: Upstream) -> None:
    vendors.script(default=REFUSED)

    assert type(Asked(OPENAI).fails()) is ProviderRefusedUs

    assert len(vendors.calls()) == 1


def test_a_busy_key_makes_way_for_the_next(
    vendors: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "openai_api_key", "sk-1,sk-2")
    vendors.script(BUSY)

    assert Asked(OPENAI).answer()["choices"]

    assert sorted(keys_used(vendors)) == ["sk-1", "sk-2"]
    # It is busy, not broken.
    assert {breaker(key=key).state for key in ("sk-1", "sk-2")} == {"closed"}


def test_a_busy_provider_makes_way_for_the_next_at_once(vendors: Upstream) -> None:
    vendors.script(BUSY | {"headers": {"retry-after": "10"}})

    assert Asked(HELLO).answer()["choices"]

    # A key is busy for one model, not for all.
    assert asked_for(vendors) == ["gpt-4.1", "gpt-6-sol"]


@pytest.mark.parametrize(
    "step",
    [
        BUSY | {"headers": {"retry-after-ms": "300"}},
        failing(429, message="Rate limit reached. Please try again in 0.3s."),
        BUSY
        | {"headers": {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "300ms"}},
    ],
)
def test_a_busy_provider_with_no_other_way_is_asked_when_it_says(
    vendors: Upstream, step: dict[str, Any]
) -> None:
    vendors.script(step)
    asked = Asked(OPENAI)

    assert asked.answer()["choices"]

    first, second = asked.trail
    assert first["error"] == "overloaded"
    assert second["at"] - first["at"] >= 0.3


def test_a_provider_that_stays_busy_is_asked_three_times(vendors: Upstream) -> None:
    vendors.script(default=BUSY | {"headers": {"retry-after-ms": "10"}})

    assert type(Asked(OPENAI).fails()) is ProviderBusy

    assert len(vendors.calls()) == 3


def test_a_provider_that_is_busy_for_long_is_not_waited_for(vendors: Upstream) -> None:
    vendors.script(default=BUSY | {"headers": {"retry-after": "3600"}})

    first, second = Asked(OPENAI).fails(), Asked(OPENAI).fails()

    assert [type(error) for error in (first, second)] == [ProviderBusy] * 2
    assert second.retry_after is not None and second.retry_after > 3500
    assert len(vendors.calls()) == 1


def test_a_model_that_is_gone_is_skipped(vendors: Upstream) -> None:
    vendors.script(GONE)

    assert Asked(HELLO).answer()["choices"]

    assert asked_for(vendors) == ["gpt-4.1", "gpt-6-sol"]
    assert breaker().error_rate in (None, 0)


def test_a_model_that_is_gone_again_and_again_is_not_asked_for(vendors: Upstream) -> None:
    vendors.script(*[step for _ in range(keys.GONE_IN_A_ROW) for step in (GONE, {})])
    for _ in range(keys.GONE_IN_A_ROW):
        Asked(HELLO).answer()
    vendors.reset()

    Asked(HELLO).answer()

    assert asked_for(vendors) == ["gpt-6-sol"]


def test_a_prompt_that_is_too_long_goes_to_a_longer_context_only(vendors: Upstream) -> None:
    vendors.script(TOO_LONG)
    fallbacks = HELLO | {"model": "gpt-4o", "fallbacks": ["gpt-4o-mini", "gpt-4.1"]}

    assert Asked(fallbacks).answer()["choices"]

    assert asked_for(vendors) == ["gpt-4o", "gpt-4.1"]


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (failing(400), InvalidRequest),
        (failing(422), InvalidRequest),
        (failing(400, code="unsupported_parameter"), UnsupportedParameter),
        (failing(400, code="content_policy_violation"), ContentPolicyViolation),
    ],
)
def test_what_the_caller_has_to_mend_is_asked_once(
    vendors: Upstream, step: dict[str, Any], kind: type[LikeDoError]
) -> None:
    vendors.script(default=step)

    assert type(Asked(HELLO).fails()) is kind

    assert len(vendors.calls()) == 1
    assert breaker().failures_in_a_row == 0


def test_nothing_is_tried_again_once_a_word_has_gone_out(vendors: Upstream) -> None:
    vendors.script(default=BROKEN)
    asked = Asked(HELLO)
    asked.spoken = True

    assert type(asked.fails()) is ProviderFailed

    assert len(vendors.calls()) == 1


def test_a_call_that_is_cancelled_is_not_tried_again_and_says_nothing_of_its_provider(
    vendors: Upstream,
) -> None:
    vendors.script(default={"delay": 60})
    asked = Asked(HELLO)

    def cancel() -> None:
        vendors.wait(received=1)
        asked.call.abort(JobCancelled("The job was cancelled."))

    thread = threading.Thread(target=cancel)
    thread.start()
    assert type(asked.fails()) is JobCancelled
    thread.join()

    assert len(vendors.calls()) == 1
    assert breaker().failures_in_a_row == 0


# ---- Fallbacks


def test_the_callers_fallbacks_come_after_the_catalogues_routes(vendors: Upstream) -> None:
    vendors.script(default=GONE)
    body = HELLO | {"fallbacks": ["deepseek-v4-pro", "gpt-4.1", "gpt-4o"]}

    Asked(body).fails()

    # gpt-4.1 was asked already.
    assert asked_for(vendors) == [*WAYS, "deepseek-v4-pro", "gpt-4o"]


def test_a_fallback_goes_to_its_own_providers(vendors: Upstream) -> None:
    vendors.script(GONE)

    Asked(OPENAI | {"fallbacks": ["deepseek-v4-pro"]}).answer()

    sent = vendors.calls()[1]
    assert sent["path"].startswith("/deepseek/")
    assert {"fallbacks", "provider"}.isdisjoint(sent["body"])


def test_keys_take_turns(vendors: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "openai_api_key", "sk-1, sk-2, sk-3")

    for _ in range(6):
        Asked(OPENAI).answer()

    used = keys_used(vendors)
    assert {used.count(key) for key in ("sk-1", "sk-2", "sk-3")} == {2}
