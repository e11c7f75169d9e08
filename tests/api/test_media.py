"""Images that a web process serves itself, over HTTP."""

import contextlib
import email.utils
import http.client
import json
import os
import socket
import time
from pathlib import Path

import pytest

from tests.callers import HELLO
from tests.conftest import ON_SQLITE, ONE_DATABASE, Server
from tests.servers.s3 import aws_settings
from tests.stack import Stack, fetch, wait_until

NAME = "vQ3_an-image.png"
CONTENT = bytes(range(256)) * 8
DAY = 24 * 3600


def folder(server: Server) -> Path:
    """Return where the server's storage is: under `var` in its own folder."""
    made = server.stack.folder / "var" / "files" / "media"
    made.mkdir(parents=True, exist_ok=True)
    return made


@pytest.fixture
def image(server: Server) -> str:
    """An image's address."""
    (folder(server) / NAME).write_bytes(CONTENT)
    return f"{server.url}/media/{NAME}"


def raw(server: Server, path: str, method: str = "GET") -> tuple[int, bytes]:
    """Ask for a path just as it is written, which urllib would tidy up."""
    connection = http.client.HTTPConnection("127.0.0.1", server.stack.ports[0], timeout=30)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@ON_SQLITE
def test_an_image_is_served_as_what_it_is_to_anybody(image: str) -> None:
    status, headers, body = fetch(image)

    assert (status, body) == (200, CONTENT)
    assert headers["content-type"] == "image/png"
    assert headers["content-length"] == str(len(CONTENT))
    assert headers["accept-ranges"] == "bytes"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert headers["cross-origin-resource-policy"] == "cross-origin"
    assert headers["access-control-allow-origin"] == "*"
    assert headers["x-request-id"].startswith("req_")


@ON_SQLITE
@pytest.mark.parametrize(
    ("ending", "media_type"), [("png", "image/png"), ("jpg", "image/jpeg"), ("webp", "image/webp")]
)
def test_each_kind_of_image_has_its_type(server: Server, ending: str, media_type: str) -> None:
    (folder(server) / f"a.{ending}").write_bytes(b"x")

    assert fetch(f"{server.url}/media/a.{ending}")[1]["content-type"] == media_type


@ON_SQLITE
@pytest.mark.parametrize(("days_old", "days_left"), [(0, 30), (29, 1), (31, 0)])
def test_a_copy_is_good_until_the_image_is_deleted_here(
    server: Server, image: str, days_old: int, days_left: int
) -> None:
    saved = time.time() - days_old * DAY
    os.utime(folder(server) / NAME, (saved, saved))

    _, headers, _ = fetch(image)

    public, age, immutable = headers["cache-control"].split(", ")
    assert (public, immutable) == ("public", "immutable")
    assert days_left * DAY - 120 <= int(age.removeprefix("max-age=")) <= days_left * DAY
    modified = email.utils.parsedate_to_datetime(headers["last-modified"]).timestamp()
    assert modified == int(saved)


@ON_SQLITE
def test_a_client_that_has_the_image_gets_a_304(image: str) -> None:
    _, headers, _ = fetch(image)

    for name, value in (
        ("If-None-Match", headers["etag"]),
        ("If-Modified-Since", headers["last-modified"]),
    ):
        status, again, body = fetch(image, headers={name: value})
        assert (status, body) == (304, b"")
        assert again["etag"] == headers["etag"]
        assert again["cache-control"].endswith("immutable")

    assert fetch(image, headers={"If-None-Match": '"another"'})[0] == 200


@ON_SQLITE
@pytest.mark.parametrize(
    ("asked", "first", "last"), [("10-19", 10, 19), ("2000-", 2000, 2047), ("-48", 2000, 2047)]
)
def test_a_part_of_it_can_be_asked_for(image: str, asked: str, first: int, last: int) -> None:
    status, headers, body = fetch(image, headers={"Range": f"bytes={asked}"})

    assert (status, body) == (206, CONTENT[first : last + 1])
    assert headers["content-range"] == f"bytes {first}-{last}/2048"
    assert headers["content-length"] == str(last + 1 - first)


@ON_SQLITE
def test_a_part_that_is_not_there_is_refused_in_the_envelope(image: str) -> None:
    status, headers, body = fetch(image, headers={"Range": "bytes=2048-"})

    assert (status, headers["content-range"]) == (416, "bytes */2048")
    assert json.loads(body)["error"]["type"] == "invalid_request_error"
    assert "cache-control" not in headers


@ON_SQLITE
@pytest.mark.parametrize("asked", ["bytes=0-1,4-5", "bytes=x", "lines=0-1"])
def test_parts_that_cannot_be_given_are_given_as_the_whole(image: str, asked: str) -> None:
    status, _, body = fetch(image, headers={"Range": asked})

    assert (status, body) == (200, CONTENT)


@ON_SQLITE
def test_a_part_of_what_has_changed_is_the_whole(image: str) -> None:
    status, _, body = fetch(image, headers={"Range": "bytes=0-1", "If-Range": '"another"'})

    assert (status, body) == (200, CONTENT)


@ON_SQLITE
def test_its_headers_can_be_asked_for_alone(image: str) -> None:
    status, headers, body = fetch(image, method="HEAD")

    assert (status, body) == (200, b"")
    assert headers["content-length"] == str(len(CONTENT))
    assert headers["content-type"] == "image/png"


@ON_SQLITE
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_else_can_be_done_with_it(image: str, method: str) -> None:
    status, headers, body = fetch(image, b"x", method=method)

    assert (status, json.loads(body)["error"]["code"]) == (405, "method_not_allowed")
    assert set(headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}


NOT_IMAGES = [
    "/media/nothing.png",
    "/media/",
    "/media",
    "/media/../media/secret.png",
    "/media/..%2fsecret.png",
    "/media/%2e%2e%2fsecret.png",
    "/media/..%5csecret.png",
    "/media/%2fetc%2fhostname",
    "/media//etc/hostname",
    "/media/media%2f" + NAME,
    "/media/" + NAME + "%00",
    "/media/" + NAME + "%00.png",
    "/media/" + NAME + "/",
    "/media/" + NAME + "%0a",
    "/media/.png",
    "/media/..png",
    "/media/secret",
    "/media/secret.txt",
    "/media/" + NAME + ".part",
    "/media/a.b.png",
    "/media/folder.png",
    "/media/link.png",
    "/media/body.png",
    "/media/%C3%A9.png",
    "/media/%FF.png",
    "/media/" + "a" * 300 + ".png",
    "/v1/media/" + NAME,
]


@ON_SQLITE
def test_whatever_is_not_an_image_is_not_found(
    server: Server, image: str, subtests: pytest.Subtests
) -> None:
    inside = folder(server)
    (inside.parent / "secret.png").write_bytes(b"SECRET")
    (inside.parent / "bodies").mkdir(exist_ok=True)
    (inside.parent / "bodies" / "job_1").write_bytes(b"SECRET")
    for name in ("secret", "secret.txt", f"{NAME}.part", "a.b.png"):
        (inside / name).write_bytes(b"SECRET")
    (inside / "folder.png").mkdir()
    for name, leads_to in (("link.png", "/etc/hostname"), ("body.png", "../bodies/job_1")):
        (inside / name).symlink_to(leads_to)

    for path in NOT_IMAGES:
        with subtests.test(path):
            status, body = raw(server, path)

            assert status == 404
            assert json.loads(body)["error"]["code"] == "not_found"
            assert b"SECRET" not in body


@ON_SQLITE
def test_a_missing_image_may_be_asked_for_again_by_pages_of_others(server: Server) -> None:
    status, headers, _ = fetch(f"{server.url}/media/nothing.png")

    assert status == 404
    assert "cache-control" not in headers
    assert headers["access-control-allow-origin"] == "*"


@ON_SQLITE
def test_a_large_image_goes_to_a_slow_reader_while_others_are_served(server: Server) -> None:
    content = os.urandom(30_000_000)
    (folder(server) / "large.png").write_bytes(content)
    port = server.stack.ports[0]
    with socket.create_connection(("127.0.0.1", port), timeout=30) as slow:
        slow.sendall(b"GET /media/large.png HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        got = slow.recv(1000)

        assert fetch(f"{server.url}/healthz")[0] == 200
        assert fetch(f"{server.url}/media/large.png")[2] == content

        while piece := slow.recv(1 << 20):
            got += piece
    assert got.partition(b"\r\n\r\n")[2] == content


@ON_SQLITE
def test_a_reader_that_leaves_in_the_middle_leaves_no_file_open(server: Server) -> None:
    (folder(server) / "left.png").write_bytes(os.urandom(30_000_000))
    port = server.stack.ports[0]
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(b"GET /media/left.png HTTP/1.1\r\nHost: x\r\n\r\n")
            connection.recv(1000)

    wait_until(lambda: not _open_files(server, "left.png"), "the files are closed")


def _open_files(server: Server, name: str) -> list[str]:
    """Return which of the web processes' open files have this name."""
    gunicorn = server.stack.webs[0].pid
    children = Path(f"/proc/{gunicorn}/task/{gunicorn}/children").read_text().split()
    found = []
    for pid in children:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.append(os.readlink(link))
    return [path for path in found if path.endswith(name)]


@ONE_DATABASE
def test_where_images_are_in_a_bucket_none_is_served_here(fresh_stack: Stack) -> None:
    inside = fresh_stack.folder / "var" / "files" / "media"
    inside.mkdir(parents=True)
    (inside / NAME).write_bytes(CONTENT)

    web = fresh_stack.web(s3_bucket="images", s3_endpoint_url="http://127.0.0.1:1")

    status, _, body = fetch(f"{web}/media/{NAME}")
    assert (status, json.loads(body)["error"]["code"]) == (404, "not_found")


@ONE_DATABASE
def test_readiness_says_what_is_wrong_with_the_storage(fresh_stack: Stack) -> None:
    web = fresh_stack.web(
        s3_bucket="images",
        s3_endpoint_url="http://127.0.0.1:1",
        **aws_settings(),
    )

    status, _, body = fetch(f"{web}/readyz")

    assert status == 503
    assert json.loads(body) == {
        "status": "unavailable",
        "missing": ["storage"],
        "reasons": {"storage": "S3 cannot be reached: check S3_ENDPOINT_URL and the network."},
    }


def test_a_worker_deletes_what_has_expired(fresh_stack: Stack) -> None:
    account, web = fresh_stack.account(), fresh_stack.web()
    worker = fresh_stack.worker()
    status, _, _ = fetch(f"{web}/v1/chat/completions", HELLO, key=account.key)
    assert status == 200
    worker.stop()
    inside = fresh_stack.folder / "var" / "files" / "media"
    inside.mkdir(parents=True)
    for name, expires in (("old.png", 1), ("new.png", 9e9)):
        (inside / name).write_bytes(CONTENT)
        fresh_stack.change(
            "INSERT INTO media (name, account_id, job_id, place, is_stored, media_type, bytes, "
            f"width, height, created, expires) SELECT '{name}', account_id, id, 0, true, "
            f"'image/png', 2048, 1, 1, 1, {expires} FROM jobs"
        )

    fresh_stack.worker()

    wait_until(lambda: fetch(f"{web}/media/old.png")[0] == 404, "the old one is gone")
    wait_until(lambda: len(fresh_stack.query("SELECT name FROM media")) == 1, "its row is gone")
    assert fetch(f"{web}/media/new.png")[2] == CONTENT
