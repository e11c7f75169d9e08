"""An S3 service for tests: moto's server as a process of its own, spoken to over HTTP."""

import json
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.servers.ports import free_port
from tests.stack import Process, clean_environment, fetch, wait_until

#: What moto takes from anybody, as long as it is not told to look.
KEY, SECRET = "AKIATESTSTESTSTESTS0", "a-secret-of-the-tests"
REGION = "eu-central-1"


class S3Server:
    """The service, with buckets that tests make."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        # Without a count it never looks at credentials; the count is then set by `guard`.
        env = clean_environment() | {"INITIAL_NO_AUTH_ACTION_COUNT": "1000000000"}
        self.process = Process("s3", command, env, folder)
        wait_until(lambda: fetch(f"{self.url}/moto-api/")[0] == 200, "S3 answers", self.process)

    @contextmanager
    def client(self, service: str = "s3") -> Iterator[Any]:
        """Give a client of the operator's."""
        session = boto3.session.Session(KEY, SECRET, region_name=REGION)
        with closing(session.client(service, endpoint_url=self.url)) as client:
            yield client

    def reset(self, *buckets: str) -> None:
        """Forget everything, look at no credentials, and make these buckets."""
        fetch(f"{self.url}/moto-api/reset-auth", b"1000000000", method="POST")
        fetch(f"{self.url}/moto-api/reset", b"", method="POST")
        with self.client() as client:
            for name in buckets:
                where = {"LocationConstraint": REGION}
                client.create_bucket(Bucket=name, CreateBucketConfiguration=where)

    def guard(self, *actions: str) -> tuple[str, str]:
        """Look at credentials from now on; return those of one who may do `actions`."""
        statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
        policy = {"Version": "2012-10-17", "Statement": [statement]}
        with self.client("iam") as iam:
            iam.create_user(UserName="likedo")
            iam.put_user_policy(
                UserName="likedo", PolicyName="likedo", PolicyDocument=json.dumps(policy)
            )
            made = iam.create_access_key(UserName="likedo")["AccessKey"]
        fetch(f"{self.url}/moto-api/reset-auth", b"0", method="POST")
        return made["AccessKeyId"], made["SecretAccessKey"]


def aws_settings(key: str = KEY, secret: str = SECRET) -> dict[str, str]:
    """Return the AWS variables of a process that has these credentials, and no others."""
    return {
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": REGION,
        **NOTHING_ELSE,
    }


#: What boto3 would find on a developer's machine, or ask a cloud for.
NOTHING_ELSE = {
    "AWS_CONFIG_FILE": "/nowhere",
    "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def sign_in(monkeypatch: pytest.MonkeyPatch, key: str = KEY, secret: str = SECRET) -> None:
    """Give this process these credentials; an empty one is left out."""
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    for name, value in aws_settings(key, secret).items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
