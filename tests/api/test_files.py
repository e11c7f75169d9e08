"""Files, as the official SDK and a bare HTTP client see them."""

import contextlib
import http.client
import json
import os
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI

from bench.processes import resident_mib
from tests.batches import ENDPOINT, Batches, chats, file_of
from tests.conftest import ON_SQLITE, ONE_DATABASE, Server
from tests.stack import Account, Stack, fetch
from tests.upstream import Upstream

MIB = 1024 * 1024
BOUNDARY = "the-boundary"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


@pytest.fixture
def sdk(server: Server, account: Account) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.api, api_key=account.key, max_retries=0) as sdk:
        yield sdk


def part(name: str, value: bytes, filename: str | None = None) -> bytes:
    named = f'; filename="{filename}"' if filename else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'
    return head.encode() + value + b"\r\n"


def form(**fields: bytes) -> bytes:
    """Return a form with these fields; `file` goes as a file."""
    parts = [part(name, fields[name], "a.jsonl" if name == "file" else None) for name in fields]
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def post(server: Server, account: Account, body: bytes, **headers: str) -> tuple[int, Any]:
    status, _, said = fetch(f"{server.api}/files", body, key=account.key, headers=FORM | headers)
    return status, json.loads(said)


def test_a_file_is_kept_found_read_listed_and_deleted(sdk: OpenAI) -> None:
    content = file_of(chats(3))

    made = sdk.files.create(file=("requests.jsonl", content), purpose="batch")
    found = sdk.files.retrieve(made.id)
    read = sdk.files.content(made.id)
    listed = list(sdk.files.list())
    gone = sdk.files.delete(made.id)

    assert made.id.startswith("file-") and len(made.id) > 30
    assert (made.object, made.bytes, made.filename) == ("file", len(content), "requests.jsonl")
    assert (made.purpose, made.status) == ("batch", "processed")
    assert made.expires_at == made.created_at + 30 * 24 * 3600
    assert found == made and listed == [made]
    assert read.content == content
    assert "filename=requests.jsonl" in read.response.headers["content-disposition"]
    assert (gone.id, gone.deleted, gone.object) == (made.id, True, "file")
    for ask in (sdk.files.retrieve, sdk.files.content, sdk.files.delete):
        with pytest.raises(openai.NotFoundError):
            ask(made.id)
    assert list(sdk.files.list()) == []


def test_what_is_deleted_is_gone_from_the_storage(server: Server, sdk: OpenAI) -> None:
    made = sdk.files.create(file=("a.jsonl", b"{}"), purpose="batch")
    path = server.stack.folder / "var" / "files" / "files" / made.id
    was_there = path.is_file()

    sdk.files.delete(made.id)

    assert was_there and not path.exists()
    assert server.stack.query("SELECT id FROM files WHERE id = :id", id=made.id) == []


def test_files_are_listed_in_pages_in_either_order_and_by_purpose(sdk: OpenAI) -> None:
    made = [
        sdk.files.create(file=(f"{number}.jsonl", b"{}"), purpose="batch").id for number in range(5)
    ]

    newest_first = [file.id for file in sdk.files.list(limit=2)]
    oldest_first = [file.id for file in sdk.files.list(limit=2, order="asc")]

    assert newest_first == made[::-1]
    assert oldest_first == made
    assert list(sdk.files.list(purpose="batch_output")) == []


def test_anothers_file_is_not_there(server: Server, sdk: OpenAI) -> None:
    made = sdk.files.create(file=("a.jsonl", b"{}"), purpose="batch")

    with OpenAI(base_url=server.api, api_key=server.stack.account().key, max_retries=0) as other:
        for ask in (other.files.retrieve, other.files.content, other.files.delete):
            with pytest.raises(openai.NotFoundError):
                ask(made.id)
        assert list(other.files.list()) == []
    assert sdk.files.content(made.id).content == b"{}"


def test_a_file_says_for_how_long_it_is_kept(sdk: OpenAI) -> None:
    made = sdk.files.create(
        file=("a.jsonl", b"{}"),
        purpose="batch",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )

    assert made.expires_at == made.created_at + 3600


def test_a_file_whose_time_is_up_is_not_there(server: Server, sdk: OpenAI) -> None:
    made = sdk.files.create(file=("a.jsonl", b"{}"), purpose="batch")

    server.stack.change(f"UPDATE files SET expires = 1 WHERE id = '{made.id}'")

    with pytest.raises(openai.NotFoundError):
        sdk.files.retrieve(made.id)
    assert list(sdk.files.list()) == []


def test_the_input_of_a_batch_is_not_deleted_before_its_end(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script(default={"delay": 60})
    batches = Batches(server.url, account)
    batch = batches.create(chats(1))

    with pytest.raises(openai.BadRequestError) as raised:
        batches.sdk.files.delete(batch.input_file_id)
    batches.sdk.batches.cancel(batch.id)
    batches.until(batch, "cancelled")

    assert "batch" in raised.value.message
    assert batches.sdk.files.delete(batch.input_file_id).deleted
    batches.close()


@ON_SQLITE
@pytest.mark.parametrize("name", ["../x.jsonl", 'a"b.jsonl', "ü\n.jsonl", "x" * 1000, "a\0b"])
def test_any_name_is_only_a_name(sdk: OpenAI, name: str) -> None:
    made = sdk.files.create(file=(name, b"{}"), purpose="batch")

    assert sdk.files.retrieve(made.id).filename == made.filename
    assert len(made.filename) <= 255 and made.filename.isprintable()
    assert sdk.files.content(made.id).content == b"{}"


def test_a_name_is_the_last_part_of_a_path_and_is_sent_back_in_full(
    server: Server, account: Account, sdk: OpenAI
) -> None:
    sent = {
        b'filename="../dir/x.jsonl"': "x.jsonl",
        b'filename="C:\\dir\\b.jsonl"': "b.jsonl",
        b'filename=".."': "file",
        b"filename*=UTF-8''..%2F..%5Cc.jsonl": "c.jsonl",
        b"filename*=utf-8'en'%e2%82%ac%20rates.jsonl; filename=\"a.jsonl\"": "\u20ac rates.jsonl",
        b"filename=\"; filename*=UTF-8''no\"; filename*=koi8-r''no; filename=d": "d",
    }
    for name, expected in sent.items():
        body = form(purpose=b"batch", file=b"{}").replace(b'filename="a.jsonl"', name)

        status, made = post(server, account, body)

        assert (status, made["filename"]) == (200, expected), name
        header = sdk.files.content(made["id"]).response.headers["content-disposition"]
        if not expected.isascii():
            full = "UTF-8''%E2%82%AC%20rates.jsonl"
            assert header == f'attachment; filename="_ rates.jsonl"; filename*={full}'


@ON_SQLITE
@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (form(purpose=b"batch"), "missing_required_parameter", "file"),
        (form(file=b"{}"), "missing_required_parameter", "purpose"),
        (form(purpose=b"assistants", file=b"{}"), "invalid_parameter", "purpose"),
        (form(purpose=b"batch_output", file=b"{}"), "invalid_parameter", "purpose"),
        (form(purpose=b"batch", file=b""), "invalid_parameter", "file"),
        (part("purpose", b"batch") + part("file", b"{}"), "invalid_parameter", None),
        (b"", "invalid_parameter", None),
        (b"nonsense", "invalid_parameter", None),
    ],
)
def test_a_form_that_lacks_something_is_refused_by_name(
    server: Server, account: Account, body: bytes, code: str, param: str | None
) -> None:
    status, said = post(server, account, body)

    assert (status, said["error"]["code"], said["error"]["param"]) == (400, code, param)
    assert server.stack.query("SELECT id FROM files WHERE bytes = 0") == []


def test_what_is_no_form_is_refused(server: Server, account: Account) -> None:
    status, said = post(server, account, b"{}", **{"Content-Type": "application/json"})
    bare = post(server, account, b"{}", **{"Content-Type": "multipart/form-data"})

    assert (status, said["error"]["code"]) == (415, "unsupported_media_type")
    assert (bare[0], bare[1]["error"]["code"]) == (400, "invalid_parameter")


def test_a_body_that_breaks_off_leaves_no_file(server: Server, account: Account) -> None:
    body = form(purpose=b"batch", file=b"x" * 1000)
    connection = http.client.HTTPConnection("127.0.0.1", server.stack.ports[0])
    connection.putrequest("POST", "/v1/files")
    for name, value in (FORM | {"Authorization": f"Bearer {account.key}"}).items():
        connection.putheader(name, value)
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[:500])
    connection.sock.shutdown(1)
    reply = connection.getresponse()
    said = json.loads(reply.read())
    connection.close()

    assert (reply.status, said["error"]["code"]) == (400, "invalid_parameter")
    with OpenAI(base_url=server.api, api_key=account.key) as sdk:
        assert list(sdk.files.list()) == []


def test_too_large_a_file_is_refused_by_its_declared_size_and_by_its_true_one(
    server: Server, account: Account
) -> None:
    def pieces() -> Iterator[bytes]:
        yield part("purpose", b"batch") + part("file", b"", "a.jsonl")[:-2]
        for _ in range(103):
            yield bytes(MIB)

    declared = post(server, account, b"", **{"Content-Length": str(102 * MIB)})
    connection = http.client.HTTPConnection("127.0.0.1", server.stack.ports[0], timeout=60)
    headers = FORM | {"Authorization": f"Bearer {account.key}"}
    with contextlib.suppress(OSError):  # It has its answer before everything was sent.
        connection.request("POST", "/v1/files", pieces(), headers, encode_chunked=True)
    reply = connection.getresponse()
    said = json.loads(reply.read())
    connection.close()

    assert (declared[0], declared[1]["error"]["code"]) == (413, "request_too_large")
    assert (reply.status, said["error"]["code"]) == (413, "request_too_large")


@ONE_DATABASE
@pytest.mark.slow
def test_a_file_of_100_mib_goes_to_the_disk_and_not_to_memory(fresh_stack: Stack) -> None:
    web = fresh_stack.web()
    account = fresh_stack.account()
    pid = fresh_stack.webs[0].pid
    path = fresh_stack.folder / "large.jsonl"
    with path.open("wb") as file:
        for _ in range(100):
            file.write(os.urandom(MIB))
    with OpenAI(base_url=f"{web}/v1", api_key=account.key, max_retries=0) as sdk:
        sdk.files.create(file=("small.jsonl", b"{}"), purpose="batch")
        before = resident_mib(pid)

        made = sdk.files.create(file=path, purpose="batch")
        with sdk.files.with_streaming_response.content(made.id) as reply:
            read = sum(len(piece) for piece in reply.iter_bytes())

    peak = _peak_mib(pid)
    assert (made.bytes, read) == (100 * MIB, 100 * MIB)
    assert peak - before < 60


def _peak_mib(pid: int) -> float:
    """Return the most memory that a process or one of its children had at any time."""
    found = []
    with open(f"/proc/{pid}/task/{pid}/children") as children:
        pids = [pid, *map(int, children.read().split())]
    for each in pids:
        with open(f"/proc/{each}/status") as status:
            (line,) = [line for line in status if line.startswith("VmHWM:")]
            found.append(int(line.split()[1]) / 1024)
    return sum(found)


def test_files_need_a_key_and_count_towards_the_hour(server: Server) -> None:
    account = server.stack.account(plan="free")
    body = form(purpose=b"batch", file=b"{}")

    anonymous = fetch(f"{server.api}/files", body, headers=FORM)
    _, headers, _ = fetch(f"{server.api}/files", body, key=account.key, headers=FORM)
    refused = fetch(f"{server.api}/files", form(file=b"{}"), key=account.key, headers=FORM)

    assert anonymous[0] == 401
    assert headers["x-ratelimit-remaining-requests"] == "199"
    assert (refused[0], refused[1]["x-ratelimit-remaining-requests"]) == (400, "198")


def test_a_file_is_for_a_batch_of_any_number(
    server: Server, account: Account, upstream: Upstream
) -> None:
    batches = Batches(server.url, account)
    first = batches.run(chats(2))

    second = batches.sdk.batches.create(
        input_file_id=first.input_file_id, endpoint=ENDPOINT, completion_window="24h"
    )

    assert len(batches.output(batches.until(second, "completed"))) == 2
    assert {file.filename for file in batches.sdk.files.list(purpose="batch_output")} == {
        f"{batch.id}_output.jsonl" for batch in (first, second)
    }
    batches.close()
