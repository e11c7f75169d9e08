"""Files in a bucket of any S3-compatible service."""

import uuid
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from models import errors
from storage.backend import Backend

CONFIG = Config(connect_timeout=5, read_timeout=30, retries={"max_attempts": 3})


class S3(Backend):
    """Credentials and region come from the AWS variables, as boto3 reads them."""

    def __init__(self, bucket: str, endpoint_url: str) -> None:
        self.bucket = bucket
        self.client: Any = boto3.client("s3", endpoint_url=endpoint_url or None, config=CONFIG)

    def save(self, name: str, data: bytes) -> None:
        with _asking_s3():
            self.client.put_object(Bucket=self.bucket, Key=name, Body=data)

    def load(self, name: str) -> bytes | None:
        with _asking_s3():
            try:
                found = self.client.get_object(Bucket=self.bucket, Key=name)
            except self.client.exceptions.NoSuchKey:
                return None
            return bytes(found["Body"].read())

    def delete(self, name: str) -> None:
        with _asking_s3():
            self.client.delete_object(Bucket=self.bucket, Key=name)

    def check(self) -> None:
        probe = f"probe/{uuid.uuid4().hex}"
        self.save(probe, b"")
        self.delete(probe)


class _asking_s3:  # noqa: N801  # it reads as the context manager it is
    """Says `Unavailable` for whatever the service fails with."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, BotoCoreError | ClientError):
            raise errors.Unavailable("The storage does not answer just now. Try again.") from error
