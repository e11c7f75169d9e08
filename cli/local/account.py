"""The account that `likedo up` makes, so that the first call works without any preparation."""

import os
from pathlib import Path

from access import accounts, keys
from billing import ledger
from config.catalog.load import catalog
from config.settings import settings
from models.errors import InvalidKey

NAME = "local"
#: Credits, granted once.
CREDITS = 100_000


def key() -> str:
    """Return a key of the account, the same at each start; make what is not there yet."""
    account_id = _account()
    kept = _kept_key()
    return kept if _speaks_for(kept, account_id) else _new_key(account_id)


def _account() -> int:
    found = accounts.find(NAME)
    account_id = int(found.id) if found else accounts.create(NAME, _plan())
    if not ledger.entries(account_id, newest=1):
        ledger.grant(account_id, CREDITS, "To begin with")
    return account_id


def _plan() -> str:
    """Return the plan that allows most, the first of several."""
    return max(catalog.plans.values(), key=lambda plan: plan.requests_per_hour).name


def _file() -> Path:
    return settings.var_dir / "local.key"


def _kept_key() -> str:
    try:
        return _file().read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _speaks_for(key: str, account_id: int) -> bool:
    try:
        return keys.identify(key).account_id == account_id
    except InvalidKey:
        return False


def _new_key(account_id: int) -> str:
    _, made = keys.create(account_id, "likedo up")
    # It takes the old file's place only when it is whole, and is nobody else's to read at any time.
    whole = _file().with_suffix(".new")
    whole.unlink(missing_ok=True)
    with open(os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(made + "\n")
    whole.replace(_file())
    return made
