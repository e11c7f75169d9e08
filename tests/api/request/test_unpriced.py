"""What a call may cost is held before it begins, whatever is attached to it or set beside."""

import base64
import json
from typing import Any

from tests.conftest import ON_SQLITE, Server
from tests.stack import Account, fetch
from tests.upstream import Upstream

pytestmark = ON_SQLITE

HI = [{"role": "user", "content": "hi"}]
#: Values that ask for nothing.
NOTHING: dict[str, Any] = {
    **dict.fromkeys(("models", "plugins"), []),
    **dict.fromkeys(("route", "web_search_options", "preset"), None),
    **{"modalities": ["text"], "service_tier": "auto"},
}


def test_what_changes_nothing_is_not_refused_and_a_strangers_price_is_bounded(
    server: Server, account: Account, upstream: Upstream
) -> None:
    url = f"{server.api}/chat/completions"
    for model in ("gpt-4.1", "acme/large"):
        body = {"model": model, "messages": HI, **NOTHING}
        status, _, answer = fetch(url, json.dumps(body).encode(), key=account.key)
        assert status == 200, answer

    listed, stranger = (call["body"] for call in upstream.calls())
    assert NOTHING.keys() & listed.keys() == {"modalities", "service_tier"}
    assert stranger["provider"]["max_price"] == {"prompt": 10, "completion": 50, "request": 0}


def test_an_attached_file_is_held_for(server: Server, account: Account) -> None:
    document = base64.b64encode(b"%PDF-1.7" + bytes(50_000)).decode()
    file = {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{document}"}

    def max_credits(model: str, *parts: dict[str, Any]) -> int:
        messages = [{"role": "user", "content": [{"type": "text", "text": "Sum up."}, *parts]}]
        body = {"model": model, "messages": messages, "max_tokens": 1}
        status, _, answer = fetch(
            f"{server.api}/estimate", json.dumps(body).encode(), key=account.key
        )
        assert status == 200, answer
        return int(json.loads(answer)["max_credits"])

    part = {"type": "file", "file": file}
    assert max_credits("gpt-4.1") == 1
    assert max_credits("gpt-4.1", part) >= 100
    # No prompt is longer than the context of a model that may answer.
    assert max_credits("gpt-4o", *[part] * 5) <= 129
