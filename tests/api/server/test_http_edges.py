"""The edges of HTTP itself: what servers below Flask would answer in HTML, or log in clear."""

import http.client
import json
import socket
import subprocess
import time
from typing import Any

import pytest

from tests.callers import HELLO
from tests.conftest import Server, provider_settings
from tests.stack import Account, Stack, fetch, wait_until
from tests.upstream import Upstream

PATH = "/api/v1/ai/chat/completions"


def raw(port: int, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send bytes, and return status, headers and body of what is answered before the end."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request)
        said = b""
        while chunk := connection.recv(65536):
            said += chunk
    head, _, body = said.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(first.split(" ")[1]), headers, body


def post(key: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"POST {PATH} HTTP/1.1", "Host: here", "Connection: close"]
    lines += [f"Authorization: Bearer {key}", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def read_body(answer: Any) -> Any:
    """Return the error in an answer whose connection stays open."""
    headers = http.client.parse_headers(answer)
    return json.loads(answer.read(int(headers["Content-Length"])))["error"]


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /v1/credits?key=SECRET&q=\xc3\xa9 HTTP/1.1", 400),
        (b"GET /v1/credits?x=a b&key=SECRET HTTP/1.1", 400),
        (b"GET /v1/credits?key=SECRET&x=" + b"x" * 9000 + b" HTTP/1.1", 414),
        (b"GET /v1/credits?key=SECRET HTTP/1.1\r\nX-Long: " + b"x" * 9000, 431),
        (b"GET /v1/credits?key=SECRET HTTP/1.1\r\nExpect: miracles", 417),
    ],
)
def test_a_refusal_below_flask_is_in_the_error_envelope_and_logs_no_key(
    server: Server, request_line: bytes, status: int
) -> None:
    got, headers, body = raw(server.stack.ports[0], request_line + b"\r\nHost: here\r\n\r\n")

    assert (got, headers["content-type"]) == (status, "application/json")
    assert json.loads(body)["error"]["type"] == "invalid_request_error"
    assert headers["x-request-id"].startswith("req_")
    assert "SECRET" not in server.stack.webs[0].said()


def test_no_header_moves_a_request_and_no_answer_is_kept_or_guessed_at(server: Server) -> None:
    line = b"GET /v1/models HTTP/1.1\r\nHost: here\r\nConnection: close\r\n"

    for header in (b"SCRIPT_NAME: /v1", b"SCRIPT_NAME: /elsewhere", b"PATH_INFO: /healthz"):
        status, headers, body = raw(server.stack.ports[0], line + header + b"\r\n\r\n")

        assert (status, json.loads(body)["error"]["code"]) == (401, "invalid_api_key"), header
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_two_slashes_are_no_page_and_repeat_no_key(server: Server) -> None:
    status, headers, body = fetch(f"{server.url}/v1//credits?key=SECRET")

    assert (status, headers["content-type"]) == (404, "application/json")
    assert b"SECRET" not in body


def test_a_body_that_is_refused_by_its_size_is_answered_before_it_is_sent(
    server: Server, account: Account
) -> None:
    with socket.create_connection(("127.0.0.1", server.stack.ports[0]), timeout=30) as connection:
        connection.sendall(post(account.key, "Content-Length: 99999999"))
        with connection.makefile("rb") as answer:
            status, error = answer.readline(), read_body(answer)

    assert status.startswith(b"HTTP/1.1 413 ")
    assert error["code"] == "request_too_large"


def test_a_body_that_breaks_off_says_how_the_hour_stands(server: Server, account: Account) -> None:
    request = post(account.key, "Transfer-Encoding: chunked", body=b"zz\r\n")

    status, headers, _ = raw(server.stack.ports[0], request)

    assert status == 400
    assert headers["x-ratelimit-remaining-requests"] == "2000"


def test_a_job_that_cannot_be_is_not_there(server: Server, account: Account) -> None:
    assert fetch(f"{server.api}/jobs/%00", key=account.key)[0] == 404


def test_a_byte_order_mark_before_the_json_is_not_part_of_it(
    server: Server, account: Account
) -> None:
    body = b"\xef\xbb\xbf" + json.dumps(HELLO).encode()

    status, _, answer = fetch(f"{server.url}{PATH}", body, key=account.key)

    assert (status, json.loads(answer)["object"]) == (200, "chat.completion")


def test_a_chunked_body_is_as_good_as_a_counted_one(server: Server, account: Account) -> None:
    body = json.dumps(HELLO).encode()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:10], body[10:]))

    got, _, _ = raw(
        server.stack.ports[0],
        post(account.key, "Transfer-Encoding: chunked", body=chunks + b"0\r\n\r\n"),
    )

    assert got == 200


def test_a_chunked_body_that_is_too_large_is_refused_not_cut(upstream: Upstream) -> None:
    stack = Stack(max_body_bytes=1000, sandbox=1)
    try:
        stack.web()
        account = stack.account()
        body = json.dumps(HELLO).encode().ljust(1000)
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body, b"x" * 5000))

        got, _, said = raw(
            stack.ports[0],
            post(account.key, "Transfer-Encoding: chunked", body=chunks + b"0\r\n\r\n"),
        )

        assert (got, json.loads(said)["error"]["code"]) == (413, "request_too_large")
        assert account.jobs() == []
    finally:
        stack.close()


@pytest.mark.parametrize("chunks", [b"zz\r\nabc\r\n0\r\n\r\n", b"3\r\nabcdef\r\n0\r\n\r\n"])
def test_a_broken_body_is_a_400(server: Server, account: Account, chunks: bytes) -> None:
    request = post(account.key, "Transfer-Encoding: chunked", body=chunks)

    got, _, body = raw(server.stack.ports[0], request)

    assert (got, json.loads(body)["error"]["code"]) == (400, "invalid_parameter")


def test_a_body_that_ends_too_soon_is_a_400(server: Server, account: Account) -> None:
    request = post(account.key, "Content-Length: 500", body=b"{}")
    with socket.create_connection(("127.0.0.1", server.stack.ports[0]), timeout=30) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        said = b""
        while chunk := connection.recv(65536):
            said += chunk

    assert said.startswith(b"HTTP/1.1 400") and b"announced" in said


@pytest.mark.parametrize("version", ["--http1.0", "--http1.1"])
def test_curl_does_not_take_a_late_failure_for_an_answer(upstream: Upstream, version: str) -> None:
    upstream.script(default={"delay": 0.2, "status": 500, "json": {"error": {"message": "oops"}}})
    stack = Stack(sync_wait_seconds=0.5, **provider_settings(upstream))
    try:
        url = stack.web() + PATH
        stack.worker()
        key = stack.account().key
        command = ["curl", "-sS", "-f", version, url, "-H", f"Authorization: Bearer {key}"]
        command += ["-H", "Content-Type: application/json", "-d", json.dumps(HELLO)]

        done = subprocess.run(command, capture_output=True, timeout=60, check=False)

        assert done.returncode != 0
    finally:
        stack.close()


def test_a_next_request_sent_early_is_answered_after_the_first(
    server: Server, account: Account
) -> None:
    body = json.dumps(HELLO).encode()
    one = post(account.key, f"Content-Length: {len(body)}", body=body)
    first = one.replace(b"Connection: close\r\n", b"")

    with socket.create_connection(("127.0.0.1", server.stack.ports[0]), timeout=30) as connection:
        connection.sendall(first + one)
        said = b""
        while chunk := connection.recv(65536):
            said += chunk

    assert said.count(b"HTTP/1.1 200 OK") == 2


def test_an_old_answer_is_kept_for_ten_minutes_and_an_unfetched_one_for_a_day(
    server: Server, account: Account
) -> None:
    fetch(f"{server.api}/chat/completions", HELLO, key=account.key)
    job_id = account.jobs()[0]["id"]
    sql = "SELECT expires_at FROM results WHERE job_id = :id"

    def left() -> float:
        return float(server.stack.query(sql, id=job_id)[0][0]) - time.time()

    wait_until(lambda: left() < 601, "the hand-over is written down")
    assert left() > 500
