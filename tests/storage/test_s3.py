"""Files in a bucket: over HTTP, with boto3, as in production."""

import socket
import subprocess
import sys
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import pytest

from config.settings import settings
from models.errors import Unavailable
from storage.s3 import S3
from tests.servers.ports import free_port
from tests.servers.s3 import S3Server, aws_settings, sign_in
from tests.stack import ROOT, clean_environment, fetch
from tests.storage.conftest import BUCKET
from tests.storage.odd_s3 import answering

NAME = "media/an_image-1.png"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "source.png"
    path.write_bytes(b"\x89PNG" + bytes(2_000_000))
    return path


@pytest.fixture
def bucket(s3: S3Server) -> S3:
    return S3(BUCKET, s3.url)


def test_an_image_is_stored_as_what_it_is(
    s3: S3Server, bucket: S3, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "media_ttl_days", 2)

    bucket.save_file(NAME, image, "image/png")

    with s3.client() as client:
        found = client.get_object(Bucket=BUCKET, Key=NAME)
        with found["Body"] as body:
            assert body.read() == image.read_bytes()
    assert found["ContentType"] == "image/png"
    assert found["CacheControl"] == "public, max-age=172800, immutable"
    assert found["ContentDisposition"] == "inline"


def test_nothing_is_kept_elsewhere_for_longer_than_a_year(
    s3: S3Server, bucket: S3, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "media_ttl_days", 10_000)

    bucket.save_file(NAME, image, "image/png")

    with s3.client() as client:
        found = client.head_object(Bucket=BUCKET, Key=NAME)
    assert found["CacheControl"] == "public, max-age=31536000, immutable"


def test_a_presigned_link_gives_the_image_and_its_type(
    bucket: S3, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "media_url_seconds", 1234)
    bucket.save_file(NAME, image, "image/png")

    link = bucket.url(NAME)

    signed = parse_qs(urlsplit(link).query)
    assert signed["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert signed["X-Amz-Expires"] == ["1234"]
    assert urlsplit(link).path == f"/{BUCKET}/{NAME}"
    status, headers, body = fetch(link)
    assert (status, headers["content-type"]) == (200, "image/png")
    assert body == image.read_bytes()


def test_a_public_bucket_has_links_of_its_own(s3: S3Server, image: Path) -> None:
    with s3.client() as client:
        client.put_bucket_acl(Bucket=BUCKET, ACL="public-read")
    bucket = S3(BUCKET, s3.url, f"{s3.url}/{BUCKET}")
    bucket.save_file(NAME, image, "image/png")

    link = bucket.url(NAME)

    assert link == f"{s3.url}/{BUCKET}/{NAME}"
    assert fetch(link)[2] == image.read_bytes()


def test_a_link_under_a_public_address_needs_no_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sign_in(monkeypatch, "", "")

    link = S3(BUCKET, "", "https://cdn.example.com/x").url(NAME)

    assert link == f"https://cdn.example.com/x/{NAME}"


def test_files_go_out_as_they_are_for_services_that_know_no_checksums(image: Path) -> None:
    with answering(200, b"") as (url, requests):
        S3(BUCKET, url).save_file(NAME, image, "image/png")

    (request,) = requests
    headers = {name.lower(): value for name, value in request.items()}
    assert headers["content-length"] == str(image.stat().st_size)
    assert headers["x-amz-content-sha256"].isalnum()
    assert not [name for name in headers if "checksum" in name or name == "x-amz-trailer"]


@pytest.fixture(autouse=True)
def signed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    sign_in(monkeypatch)


def test_many_greenlets_share_one_client_and_no_threads(
    s3: S3Server, image: Path, tmp_path: Path
) -> None:
    code = """if True:
        from gevent import monkey
        monkey.patch_all()
        import hashlib, sys, threading
        from pathlib import Path
        import gevent
        from storage.s3 import S3

        started = []
        start = threading.Thread.start
        threading.Thread.start = lambda self: (started.append(self), start(self))
        bucket, source = S3(sys.argv[1], sys.argv[2]), Path(sys.argv[3])

        def round_trip(number):
            name = f"media/{number}.png"
            bucket.save_file(name, source, "image/png")
            size, pieces = bucket.pieces(name)
            seen = hashlib.sha256(b"".join(pieces)).digest()
            bucket.delete(name)
            return size == source.stat().st_size and seen == wanted

        wanted = hashlib.sha256(source.read_bytes()).digest()
        jobs = [gevent.spawn(round_trip, number) for number in range(40)]
        gevent.joinall(jobs, raise_error=True)
        print(sum(job.value for job in jobs), len(started))
    """
    done = subprocess.run(
        [sys.executable, "-c", code, BUCKET, s3.url, str(image)],
        env=clean_environment() | aws_settings() | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.stdout, done.stderr) == ("40 0\n", "")


# ---- What may be wrong ---------------------------------------------------------------------------


def problem_of(bucket: S3) -> str:
    """Return what operators are told; callers are told nothing of it."""
    with pytest.raises(Unavailable) as caught:
        bucket.check()
    with pytest.raises(Unavailable):
        bucket.ready()
    assert caught.value.message == "The storage does not answer just now. Try again."
    assert caught.value.__cause__ is not None
    problem = bucket.problem()
    assert problem is not None
    for secret in ("AKIA", "a-secret", BUCKET, "127.0.0.1"):
        assert secret not in problem
    return problem


def test_a_bucket_that_is_missing_is_named_as_what_is_wrong(s3: S3Server, image: Path) -> None:
    bucket = S3("another-bucket", s3.url)

    assert problem_of(bucket) == "The bucket that S3_BUCKET names does not exist."
    with pytest.raises(Unavailable):
        bucket.save_file(NAME, image, "image/png")
    with pytest.raises(Unavailable):
        bucket.load(NAME)
    with pytest.raises(Unavailable):
        bucket.pieces(NAME)


def test_a_bucket_that_is_made_afterwards_is_used(s3: S3Server) -> None:
    s3.reset()
    bucket = S3(BUCKET, s3.url)
    assert "does not exist" in problem_of(bucket)

    s3.reset(BUCKET)

    bucket.ready()
    assert bucket.problem() is None


def test_a_key_that_s3_does_not_know_is_named(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.guard("s3:*")
    sign_in(monkeypatch, "AKIAWRONGWRONGWRONG0", "a-secret")

    assert "check AWS_ACCESS_KEY_ID" in problem_of(S3(BUCKET, s3.url))


def test_a_secret_that_is_wrong_is_named(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    key, _ = s3.guard("s3:*")
    sign_in(monkeypatch, key, "a-secret-of-others")

    assert "check AWS_SECRET_ACCESS_KEY" in problem_of(S3(BUCKET, s3.url))


@pytest.mark.parametrize("action", ["s3:GetObject", "s3:PutObject"])
def test_credentials_that_may_do_only_half_of_it_are_told_what_to_allow(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    sign_in(monkeypatch, *s3.guard(action, "s3:DeleteObject"))

    assert "allow s3:PutObject, s3:GetObject and s3:DeleteObject" in problem_of(S3(BUCKET, s3.url))


def test_credentials_that_may_do_what_is_needed_are_enough(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(monkeypatch, *s3.guard("s3:PutObject", "s3:GetObject", "s3:DeleteObject"))

    assert S3(BUCKET, s3.url).problem() is None


def test_credentials_that_are_missing_are_asked_for_and_used_when_they_come(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(monkeypatch, "", "")
    bucket = S3(BUCKET, s3.url)
    assert "There are no AWS credentials" in problem_of(bucket)
    with pytest.raises(Unavailable):
        bucket.url(NAME)

    sign_in(monkeypatch)

    assert bucket.problem() is None


@pytest.mark.parametrize(("key", "secret"), [("AKIATEST", ""), ("", "a-secret")])
def test_half_of_the_credentials_is_told_to_be_half(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, key: str, secret: str
) -> None:
    sign_in(monkeypatch, key, secret)

    assert "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in problem_of(S3(BUCKET, s3.url))


def test_an_endpoint_where_nobody_listens_is_told_to_be_out_of_reach(image: Path) -> None:
    bucket = S3(BUCKET, f"http://127.0.0.1:{free_port()}")

    assert problem_of(bucket) == "S3 cannot be reached: check S3_ENDPOINT_URL and the network."
    with pytest.raises(Unavailable):
        bucket.save_file(NAME, image, "image/png")


def test_an_endpoint_that_hangs_up_is_told_to_be_broken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        Thread(target=_hang_up, args=[listener], daemon=True).start()

        problem = problem_of(S3(BUCKET, f"http://127.0.0.1:{listener.getsockname()[1]}"))

        assert problem == "The connection to S3 broke."
        listener.shutdown(socket.SHUT_RDWR)


def _hang_up(listener: socket.socket) -> None:
    while True:
        try:
            listener.accept()[0].close()
        except OSError:
            return


@pytest.mark.parametrize("url", ["s3.example.com", "http://", "nonsense", "http://[::1"])
def test_an_endpoint_that_is_no_url_is_told_to_be_none(url: str) -> None:
    assert problem_of(S3(BUCKET, url)) == "S3_ENDPOINT_URL is not an address that can be used."


@pytest.mark.parametrize("name", ["Not A Bucket", "a/b?c"])
def test_a_name_that_no_bucket_can_have_is_told_to_be_none(s3: S3Server, name: str) -> None:
    assert problem_of(S3(name, s3.url)) == "S3_BUCKET is not the name of a bucket."


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (403, "InvalidAccessKeyId", "check AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", "check AWS_SECRET_ACCESS_KEY"),
        (400, "ExpiredToken", "have expired"),
        (400, "InvalidToken", "check AWS_SESSION_TOKEN"),
        (403, "AccessDenied", "may not use the bucket"),
        (403, "RequestTimeTooSkewed", "clock is wrong"),
        (400, "AuthorizationHeaderMalformed", "check AWS_DEFAULT_REGION"),
        (503, "SlowDown", "S3 refuses with SlowDown."),
        (500, "&lt;b&gt;a-secret", "S3 refuses with an error."),
    ],
)
def test_what_the_service_says_is_told_in_words(status: int, code: str, told: str) -> None:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>a-secret</Message></Error>"

    with answering(status, body.encode()) as (url, _):
        assert told in problem_of(S3(BUCKET, url))


def test_an_error_without_a_body_is_told_by_its_status() -> None:
    with answering(403, b"") as (url, _):
        assert "may not use the bucket" in problem_of(S3(BUCKET, url))


def test_a_file_of_which_the_service_gives_a_part_is_not_taken_for_whole(s3: S3Server) -> None:
    with answering(200, b"x" * 100_000, cut=True) as (url, _):
        bucket = S3(BUCKET, url)
        found = bucket.pieces(NAME)
        assert found is not None
        size, pieces = found

        assert size == 200_000
        with pytest.raises(Unavailable):
            list(pieces)
        with pytest.raises(Unavailable):
            bucket.load(NAME)
