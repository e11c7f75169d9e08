"""A chat asked for once and again."""

import json
from typing import Any

from tests.callers import HELLO
from tests.stack import Account, fetch


def ask(url: str, account: Account, body: Any = HELLO, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    status, said, content = fetch(
        f"{url}/v1/chat/completions", body, key=account.key, headers=named
    )
    return status, said, json.loads(content) if content.strip() else None


def retry(url: str, account: Account, count: int, body: Any = HELLO) -> Any:
    return ask(url, account, body, x_stainless_retry_count=str(count))
