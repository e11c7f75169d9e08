"""Does in a database what tests need done there: a process that is warm, for as many as there are.

A command line for each would spend its time on imports.
"""

import atexit
import json
import subprocess
import sys
from functools import cache
from threading import Lock
from typing import Any

_lock = Lock()


def ask(what: str, database_url: str, **facts: Any) -> Any:
    """Have something done: `upgrade` or `account`.

    An account is made as `name` with a `plan`, `credits` and the `limits` of its key. `account`
    returns its `key`, and the key's `id`.
    """
    clerk = _clerk()
    assert clerk.stdin is not None and clerk.stdout is not None
    with _lock:
        asked = {"what": what, "database_url": database_url, "facts": facts}
        print(json.dumps(asked), file=clerk.stdin, flush=True)
        answer = clerk.stdout.readline()
    assert answer, "The clerk is no more; its last words are on standard error."
    return json.loads(answer)


@cache
def _clerk() -> "subprocess.Popen[str]":
    from tests.stack import ROOT, clean_environment

    clerk = subprocess.Popen(
        [sys.executable, "-m", "tests.clerk"],
        cwd=ROOT,
        env=clean_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(clerk.communicate)  # Its input ends, and so does it.
    return clerk


# ---- Its own process -----------------------------------------------------------------------------


def _upgrade() -> dict[str, Any]:
    import migrations

    migrations.upgrade()
    return {}


def _account(name: str, plan: str, credits: int, limits: dict[str, Any]) -> dict[str, Any]:
    from access import accounts, keys
    from billing import ledger

    account_id = accounts.create(name, plan)
    ledger.grant(account_id, credits)
    key_id, key = keys.create(account_id, limits=keys.Limits(**limits))
    return {"key": key, "id": key_id}


def main() -> None:
    from config.settings import settings
    from database import engine

    work: dict[str, Any] = {"upgrade": _upgrade, "account": _account}
    for line in sys.stdin:
        asked = json.loads(line)
        settings.database_url = asked["database_url"].replace("postgresql:", "postgresql+psycopg:")
        print(json.dumps(work[asked["what"]](**asked["facts"])), flush=True)
        engine.engine().dispose()
        engine.engine.cache_clear()


if __name__ == "__main__":
    main()
