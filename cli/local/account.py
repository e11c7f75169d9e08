"""The account that `likedo up` creates, so that the first call needs no preparation."""

import os
from pathlib import Path

from access import accounts, keys, listings
from billing import ledger
from config.catalog.load import catalog
from config.settings import settings
from models.errors import InvalidKey

NAME = "local"
#: Credits granted once, when the account is created.
CREDITS = 100_000


def key() -> str:
    """Return the account's key, the same at each start; create both if they do not exist."""
    account_id = _account_id()
    saved = _saved_key()
    return saved if _is_key_of(account_id, saved) else _new_key(account_id)


def _account_id() -> int:
    account = listings.find_account(NAME)
    account_id = account.id if account else accounts.create(NAME, _plan())
    if not ledger.entries(account_id, newest=1):
        ledger.grant(account_id, CREDITS, "To begin with")
    return account_id


def _plan() -> str:
    """Return the plan with the highest rate limit; the first one if there are several."""
    return max(catalog.plans.values(), key=lambda plan: plan.requests_per_hour).name


def key_file() -> Path:
    """Return the file that holds the key, for this user alone."""
    return settings.var_dir.resolve() / "local.key"


def _saved_key() -> str:
    try:
        return key_file().read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _is_key_of(account_id: int, key: str) -> bool:
    try:
        return keys.identify(key).account_id == account_id
    except InvalidKey:
        return False


def _new_key(account_id: int) -> str:
    _, key = keys.create(account_id, "likedo up")
    # The new file replaces the old one once it is complete, and other users can never read it.
    draft = key_file().with_suffix(".new")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(key + "\n")
    draft.replace(key_file())
    return key
