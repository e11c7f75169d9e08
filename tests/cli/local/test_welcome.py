"""What `likedo up` prints once it is ready, and the key that it prints."""

import pytest

from access import keys
from cli.local import account as local_account
from cli.local import welcome
from cli.local.account import CREDITS
from config.settings import settings
from tests.cli.conftest import Likedo


def test_a_key_that_was_revoked_is_replaced_at_the_next_start(likedo: Likedo) -> None:
    first = local_account.key()
    assert local_account.key() == first

    likedo("keys", "revoke", "1")
    keys.forget(b'{"account": 1}')
    second = local_account.key()

    assert second != first
    assert local_account.key() == second
    assert likedo("credits", "show", "--account", "local", "--json")["balance"] == CREDITS


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch, likedo: Likedo) -> None:
    likedo("accounts", "create", "local", "--plan", "pro")
    for provider in ("openai", "deepseek", "openrouter"):
        monkeypatch.setattr(settings, f"{provider}_api_key", "")


@pytest.mark.usefixtures("no_keys")
def test_with_provider_keys_it_says_which_providers_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "sandbox", False)
    monkeypatch.setattr(settings, "deepseek_api_key", "sk-1")

    text = welcome.text("lk-key")

    assert "Answers come from: deepseek." in text
    assert "sandbox" not in text
    assert '"model":"deepseek-' in text  # Nobody would serve gpt-4.


@pytest.mark.usefixtures("no_keys")
def test_with_neither_keys_nor_sandbox_it_says_that_nothing_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settings, "sandbox", False)

    assert "no call can be answered" in welcome.text("lk-key")


@pytest.mark.usefixtures("no_keys")
def test_a_suspended_account_is_mentioned(likedo: Likedo) -> None:
    likedo("accounts", "suspend", "local")

    assert "likedo accounts suspend local --undo" in welcome.text("lk-key")
