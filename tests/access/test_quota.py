"""What an account keeps is bounded by its plan; what it has paid for is never refused."""

import json
import re
import time

import pytest

from config.catalog.load import catalog
from tests.batches import Batches, chats, file_of
from tests.callers import HELLO, Callers
from tests.conftest import Server
from tests.stack import Account, fetch, wait_until
from tests.upstream import Upstream

ALLOWED = catalog.plans["pro"].max_stored_bytes
#: What a small file counts for.
SMALL = 64 * 1024
FORM = (
    b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
    + file_of(chats(1))
    + b"\r\n--x--\r\n"
)
MULTIPART = {"Content-Type": "multipart/form-data; boundary=x"}


def leave_room(server: Server, account: Account, room: int) -> None:
    """Make the account keep a file that leaves it so many bytes."""
    (owner,) = server.stack.query("SELECT id FROM accounts WHERE name = :name", name=account.name)
    now = time.time()
    server.stack.change(
        "INSERT INTO files (id, account_id, purpose, filename, bytes, is_stored, created, expires)"
        f" VALUES ('file-{now}', {owner[0]}, 'batch', 'large', {ALLOWED - room}, true, {now},"
        f" {now + 3600})"
    )


def test_uploads_batches_and_asynchronous_jobs_share_the_quota_and_nothing_else_does(
    server: Server, account: Account, upstream: Upstream
) -> None:
    leave_room(server, account, 3 * SMALL + 1000)
    batches = Batches(server.url, account)
    upstream.script({"hold": True})
    large = HELLO | {"messages": [{"role": "user", "content": "x" * 1000}], "background": True}

    batch = batches.create(chats(1))
    upstream.wait(received=1)
    uploads = Callers()
    uploads.call(server.url, account.key, 6, FORM, "files", headers=MULTIPART)
    uploaded = uploads.replies()
    refused = fetch(f"{server.api}/chat/completions", large, key=account.key)
    small = fetch(f"{server.api}/chat/completions", HELLO | {"background": True}, key=account.key)
    plain = fetch(f"{server.api}/chat/completions", large | {"background": False}, key=account.key)
    upstream.release()
    ended = batches.until(batch, "completed")

    assert sorted(status for status, _, _ in uploaded) == [200, *[413] * 5]
    error = next(json.loads(body)["error"] for status, _, body in uploaded if status == 413)
    assert error["code"] == "storage_quota_exceeded"
    assert {str(ALLOWED), str(SMALL)} <= set(re.findall(r"\d+", error["message"]))
    assert (refused[0], json.loads(refused[2])["error"]["code"]) == (413, "storage_quota_exceeded")
    assert (small[0], plain[0]) == (202, 200)
    # The output is kept although it exceeds the quota; the batch itself counts no more.
    assert len(batches.output(ended)) == 1


@pytest.mark.parametrize("server", ["sqlite"], indirect=True)
def test_a_batch_is_refused_if_not_one_line_could_be_paid(
    server: Server, upstream: Upstream
) -> None:
    poor, without_images = server.stack.account(credits=0), server.stack.account(credits=9)

    def create(account: Account, endpoint: str) -> tuple[int, str | None]:
        _, _, file = fetch(f"{server.api}/files", FORM, key=account.key, headers=MULTIPART)
        body = {
            "input_file_id": json.loads(file)["id"],
            "endpoint": endpoint,
            "completion_window": "24h",
        }
        status, _, answer = fetch(f"{server.api}/batches", body, key=account.key)
        return status, json.loads(answer).get("error", {}).get("code")

    refused = (402, "insufficient_credits")
    assert create(poor, "/v1/chat/completions") == refused
    assert create(without_images, "/v1/images/generations") == refused
    assert create(without_images, "/v1/chat/completions") == (200, None)
    wait_until(lambda: upstream.counts()["received"] == 1, "the line that can be paid runs")
