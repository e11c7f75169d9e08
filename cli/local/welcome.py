"""The message of `likedo up` when it is ready: address, key, providers, an example."""

import shlex
from pathlib import Path

import orjson

import providers
from access import listings
from cli.local import account as local_account
from cli.local import address as local_address
from config.catalog.load import catalog
from config.settings import settings
from routing import candidates

EXAMPLE_MODEL = "gpt-4"


def text(key: str) -> str:
    """Return the whole message, with the account's `key`."""
    address = local_address.url()
    account = listings.account(local_account.NAME)
    return f"""
LikeDo AI API is ready.

  Address    {address}
  For SDKs   base_url {address}/v1
  Key        {key}
  Account    "{account.name}", plan {account.plan}, {account.balance - account.held} credits

{_answering_providers()}{_warning(account.suspended)}{_openness()}

Try it:

{curl(address)}

ctrl-c stops everything.
"""


def curl(address: str) -> str:
    """Return a shell command that sends a small chat request; it reads the key from its file."""
    body = {
        "model": _model(),
        "messages": [{"role": "user", "content": "Say hello in one sentence."}],
    }
    key = f'"Authorization: Bearer $(cat {shlex.quote(str(local_account.key_file()))})"'
    words = ["-H", "Content-Type: application/json", "-d", orjson.dumps(body).decode()]
    return f"curl {address}/api/v1/ai/chat/completions -H {key} {shlex.join(words)}"


def configured_providers() -> list[str]:
    """Return the providers that have a key."""
    return [name for name in providers.NAMES if settings.keys_of(name)]


def _model() -> str:
    """Return a chat model that a provider serves now, preferably `EXAMPLE_MODEL`."""
    preferred = catalog.find(EXAMPLE_MODEL)
    chats = [model for model in candidates.listed() if model.kind == "chat"]
    served = (model.id for model in [preferred, *chats] if model and candidates.providers_of(model))
    return next(served, EXAMPLE_MODEL)


def _answering_providers() -> str:
    names = ", ".join(configured_providers())
    file = Path(".env").resolve()
    how_to_add = f"add a line such as\n\n    OPENAI_API_KEY=sk-…\n\nto {file} and start again."
    if names and settings.sandbox:
        return (
            f"Answers come from: {names}. SANDBOX is on: for the other providers' models the "
            "built-in sandbox makes answers up."
        )
    if names:
        return f"Answers come from: {names}."
    if settings.sandbox:
        return (
            "No provider key was found, so all answers are made up by the built-in sandbox, and "
            f"say so. For real ones {how_to_add}"
        )
    return f"No provider key was found and SANDBOX is off, so no call can be answered: {how_to_add}"


def _warning(suspended: bool) -> str:
    if not suspended:
        return ""
    name = local_account.NAME
    return (
        f"\n\nThe account is suspended, so its key is refused. "
        f"To accept it again: likedo accounts suspend {name} --undo"
    )


def _openness() -> str:
    if not local_address.is_open_to_others():
        return ""
    return (
        f"\n\nHOST={settings.host}: other machines can connect, and without TLS their keys travel "
        "in clear. Take HOST out to listen for this machine alone."
    )
