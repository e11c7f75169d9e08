"""Batches, driven by the official SDK: what goes in, and what comes out."""

import json
from base64 import b64decode
from typing import Any

import openai
import pytest

from tests.batches import ENDPOINT, IMAGES, Batches, chats, counts, line, the_books_are_right
from tests.callers import HELLO
from tests.conftest import ON_SQLITE, Server
from tests.stack import Account, fetch
from tests.upstream import Upstream

BROKEN = {"status": 400, "json": {"error": {"message": "No.", "type": "invalid_request_error"}}}


def test_a_batch_answers_every_line_of_its_file_in_order(
    batches: Batches, account: Account, upstream: Upstream
) -> None:
    created = batches.create(chats(10), metadata={"what": "a test"})
    batch = batches.until(created, "completed")

    assert (created.status, created.object, created.endpoint) == ("validating", "batch", ENDPOINT)
    assert created.expires_at == created.created_at + 24 * 3600
    assert created.metadata == {"what": "a test"} == batch.metadata
    assert counts(batch) == (10, 10, 0)
    assert batch.error_file_id is None and batch.errors is None
    assert batch.in_progress_at and batch.finalizing_at and batch.completed_at
    output = batches.output(batch)
    assert [each["custom_id"] for each in output] == [f"line-{number}" for number in range(10)]
    assert len({each["id"] for each in output}) == 10
    for each in output:
        assert each["id"].startswith("batch_req_") and each["error"] is None
        assert each["response"]["status_code"] == 200
        body = each["response"]["body"]
        assert body["choices"][0]["message"]["content"] == "Hello from upstream."
        assert (body["model"], body["credits_consumed"]) == ("gpt-4", 1)
    asked = {call["body"]["messages"][0]["content"] for call in upstream.calls()}
    assert asked == {f"Say {number}." for number in range(10)}
    assert account.standing() == (9_990, 0)
    the_books_are_right(account, 10_000)


def test_a_lines_request_id_is_the_job_that_its_receipt_is_of(
    server: Server, batches: Batches, account: Account, upstream: Upstream
) -> None:
    (answer,) = batches.output(batches.run(chats(1)))

    job_id = answer["response"]["request_id"]
    status, _, receipt = fetch(f"{server.api}/jobs/{job_id}/receipt", key=account.key)
    assert status == 200
    assert json.loads(receipt)["charged"] == 1
    listed = json.loads(fetch(f"{server.api}/jobs", key=account.key)[2])
    assert listed["data"] == []


def test_a_line_whose_request_fails_is_in_the_error_file_and_free(
    batches: Batches, account: Account, upstream: Upstream
) -> None:
    upstream.script(BROKEN)

    batch = batches.run(chats(3))

    assert (batch.status, counts(batch)) == ("completed", (3, 2, 1))
    assert len(batches.output(batch)) == 2
    (failed,) = batches.errors(batch)
    assert failed["error"] is None
    assert failed["response"]["status_code"] == 400
    assert failed["response"]["body"]["error"]["type"] == "invalid_request_error"
    assert failed["response"]["body"]["credits_consumed"] == 0
    assert account.standing() == (9_998, 0)
    the_books_are_right(account, 10_000)


def test_blank_lines_and_a_byte_order_mark_are_nothing(
    batches: Batches, upstream: Upstream
) -> None:
    first, second = map(json.dumps, chats(2))

    batch = batches.run([f"\ufeff{first}", "", f"{second}\r", "   "])

    assert [each["custom_id"] for each in batches.output(batch)] == ["line-0", "line-1"]


GOOD = line("good")


@ON_SQLITE
@pytest.mark.parametrize(
    ("bad", "code", "param"),
    [
        ("{", "invalid_json_line", None),
        ("[]", "invalid_json_line", None),
        (GOOD, "duplicate_custom_id", "custom_id"),
        (line(""), "invalid_parameter", "custom_id"),
        (line("a\0b"), "invalid_parameter", "custom_id"),
        (line(7), "invalid_parameter", "custom_id"),  # type: ignore[arg-type]  # that is the point
        ({"method": "POST", "url": ENDPOINT}, "missing_required_parameter", "custom_id"),
        (line("x", method="GET"), "invalid_parameter", "method"),
        (line("x", url=IMAGES), "url_mismatch", "url"),
        (line("x", None), "missing_required_parameter", "body"),
        (line("x", "hello"), "invalid_parameter", "body"),
        (line("x", {"model": "gpt-4"}), "missing_required_parameter", "body.messages"),
        (line("x", HELLO | {"temperature": 9}), "invalid_parameter", "body.temperature"),
        (line("x", HELLO | {"model": "gpt-0"}), "model_not_found", "body.model"),
        (line("x", HELLO | {"stream": True}), "unsupported_parameter", "body.stream"),
        (line("x", HELLO | {"background": True}), "unsupported_parameter", "body.background"),
    ],
)
def test_one_bad_line_fails_the_batch_before_anything_is_run(
    batches: Batches, account: Account, upstream: Upstream, bad: Any, code: str, param: str | None
) -> None:
    batch = batches.run([GOOD, "", bad])

    assert batch.status == "failed" and batch.failed_at
    assert batch.errors is not None and batch.errors.data is not None
    (problem,) = batch.errors.data
    assert (problem.code, problem.param, problem.line) == (code, param, 3)
    assert problem.message
    assert counts(batch) == (0, 0, 0)
    assert batch.output_file_id is None and batch.error_file_id is None
    assert upstream.calls() == []
    assert account.standing() == (10_000, 0)


def test_many_bad_lines_are_told_up_to_a_number(batches: Batches, upstream: Upstream) -> None:
    batch = batches.run(["nonsense"] * 200)

    assert batch.errors is not None and batch.errors.data is not None
    assert [problem.line for problem in batch.errors.data] == list(range(1, 51))


def test_a_file_without_lines_fails_the_batch(batches: Batches) -> None:
    batch = batches.run(["", " "])

    assert batch.errors is not None and batch.errors.data is not None
    assert [problem.code for problem in batch.errors.data] == ["empty_file"]


@ON_SQLITE
def test_more_lines_than_are_taken_fail_the_batch(batches: Batches, upstream: Upstream) -> None:
    batch = batches.create([json.dumps(line(str(number))) for number in range(50_001)])
    batch = batches.until(batch, "failed", seconds=120)

    assert batch.errors is not None and batch.errors.data is not None
    assert [problem.code for problem in batch.errors.data] == ["too_many_tasks"]
    assert upstream.calls() == []


def test_batches_are_listed_in_pages_the_newest_first(
    batches: Batches, server: Server, upstream: Upstream
) -> None:
    made = [batches.create(chats(1)).id for _ in range(5)]

    found = [batch.id for batch in batches.sdk.batches.list(limit=2)]

    assert found == made[::-1]


def test_anothers_batch_is_not_there(server: Server, batches: Batches, upstream: Upstream) -> None:
    batch = batches.create(chats(1))
    other = Batches(server.url, server.stack.account())

    for ask in (other.sdk.batches.retrieve, other.sdk.batches.cancel):
        with pytest.raises(openai.NotFoundError):
            ask(batch.id)
    with pytest.raises(openai.NotFoundError):
        other.sdk.batches.create(
            input_file_id=batch.input_file_id, endpoint=ENDPOINT, completion_window="24h"
        )
    assert list(other.sdk.batches.list()) == []
    other.close()


@ON_SQLITE
@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"endpoint": "/v1/embeddings"}, "endpoint"),
        ({"endpoint": None}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, "output_expires_after"),
        ({"input_file_id": 7}, "input_file_id"),
    ],
)
def test_a_wrong_parameter_is_refused_by_name(
    server: Server, account: Account, change: dict[str, Any], param: str
) -> None:
    asked = {"input_file_id": "file-0", "endpoint": ENDPOINT, "completion_window": "24h"}

    status, _, body = fetch(f"{server.api}/batches", asked | change, key=account.key)

    assert status == 400
    assert json.loads(body)["error"]["param"].startswith(param)


def test_a_file_that_a_batch_wrote_is_not_its_input(batches: Batches, upstream: Upstream) -> None:
    done = batches.run(chats(1))
    assert done.output_file_id is not None

    with pytest.raises(openai.BadRequestError) as raised:
        batches.sdk.batches.create(
            input_file_id=done.output_file_id, endpoint=ENDPOINT, completion_window="24h"
        )

    assert raised.value.param == "input_file_id"


def test_a_batch_of_images_answers_with_links_or_base64(
    server: Server, batches: Batches, account: Account, upstream: Upstream
) -> None:
    cat = {"model": "sandbox/image", "prompt": "A cat.", "size": "256x256"}
    lines = [
        line("link", cat | {"n": 2}, url=IMAGES),
        line("base64", cat | {"response_format": "b64_json"}, url=IMAGES),
    ]

    batch = batches.run(lines, IMAGES)

    assert (batch.status, counts(batch)) == ("completed", (2, 2, 0))
    link, base64 = (each["response"]["body"] for each in batches.output(batch))
    assert (link["credits_consumed"], base64["credits_consumed"]) == (20, 10)
    for datum in link["data"]:
        assert datum["url"].startswith(f"{server.url}/media/")
        assert fetch(datum["url"])[0] == 200
    assert b64decode(base64["data"][0]["b64_json"]).startswith(b"\x89PNG")
    assert account.standing() == (9_970, 0)
    the_books_are_right(account, 10_000)
