"""The backend that stores files in a bucket of any S3-compatible service."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
from botocore import exceptions
from botocore.config import Config

from config.settings import settings
from storage.backend import Backend, Pieces

#: Connections that are kept open: so many greenlets can use the service at the same time.
POOL_SIZE = 100
YEAR_SECONDS = 365 * 24 * 3600
DAY_SECONDS = 24 * 3600

_WRONG_KEY = "S3 does not know the access key: check AWS_ACCESS_KEY_ID."
_WRONG_SECRET = "The secret key is not that of the access key: check AWS_SECRET_ACCESS_KEY."
_EXPIRED = "The AWS credentials have expired: renew them, and AWS_SESSION_TOKEN with them."
_WRONG_TOKEN = "S3 does not take the session token: check AWS_SESSION_TOKEN."
_NOT_ALLOWED = (
    "The AWS credentials may not use the bucket that S3_BUCKET names: allow s3:PutObject, "
    "s3:GetObject and s3:DeleteObject on its objects."
)
_ELSEWHERE = "The bucket that S3_BUCKET names is in another region: check AWS_DEFAULT_REGION."
_NO_CREDENTIALS = "There are no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
_HALF_CREDENTIALS = (
    "The AWS credentials are not whole: set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
)
_NOT_RENEWED = "The AWS credentials could not be fetched: check where this machine has them from."
_NOT_REACHED = "S3 cannot be reached: check S3_ENDPOINT_URL and the network."
_NOT_TRUSTED = "S3's certificate cannot be verified: check S3_ENDPOINT_URL and AWS_CA_BUNDLE."
_SILENT = "S3 was reached and did not answer in time."
_NO_URL = "S3_ENDPOINT_URL is not an address that can be used."

#: The reason for operators, by the code of the service's error, https://docs.aws.amazon.com/AmazonS3/latest/API/.
REASONS_BY_CODE = {
    "NoSuchBucket": "The bucket that S3_BUCKET names does not exist.",
    "InvalidBucketName": "S3_BUCKET is not the name of a bucket.",
    "InvalidAccessKeyId": _WRONG_KEY,
    "SignatureDoesNotMatch": _WRONG_SECRET,
    "ExpiredToken": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "InvalidToken": _WRONG_TOKEN,
    "AccessDenied": _NOT_ALLOWED,
    "403": _NOT_ALLOWED,
    "AllAccessDisabled": "S3 has disabled all access to the bucket that S3_BUCKET names.",
    "AccountProblem": "S3 has a problem with the account that the credentials are of.",
    "QuotaExceeded": "The bucket that S3_BUCKET names is full.",
    "PermanentRedirect": _ELSEWHERE,
    "AuthorizationHeaderMalformed": _ELSEWHERE,
    "IllegalLocationConstraintException": _ELSEWHERE,
    "301": _ELSEWHERE,
    "RequestTimeTooSkewed": "This machine's clock is wrong by too much for S3 to answer it.",
}

#: The reason for operators, by the class of boto3's own exception; the first match counts.
REASONS_BY_CLASS: tuple[tuple[type[BaseException], str], ...] = (
    (exceptions.PartialCredentialsError, _HALF_CREDENTIALS),
    (exceptions.NoCredentialsError, _NO_CREDENTIALS),
    (exceptions.CredentialRetrievalError, _NOT_RENEWED),
    (exceptions.MetadataRetrievalError, _NOT_RENEWED),
    (exceptions.TokenRetrievalError, _NOT_RENEWED),
    (exceptions.ProfileNotFound, "AWS_PROFILE names a profile that is not there."),
    (exceptions.ParamValidationError, "S3_BUCKET is not the name of a bucket."),
    (exceptions.InvalidRegionError, "AWS_DEFAULT_REGION is not the name of a region."),
    (exceptions.SSLError, _NOT_TRUSTED),
    (exceptions.ConnectTimeoutError, _NOT_REACHED),
    (exceptions.EndpointConnectionError, _NOT_REACHED),
    (exceptions.ProxyConnectionError, _NOT_REACHED),
    (exceptions.ReadTimeoutError, _SILENT),
    (exceptions.HTTPClientError, "The connection to S3 broke."),
    (exceptions.InvalidEndpointConfigurationError, _NO_URL),
)


class S3(Backend):
    """Credentials and region come from the AWS variables, as boto3 reads them."""

    failures = (exceptions.BotoCoreError, exceptions.ClientError)

    def __init__(self, bucket: str, endpoint_url: str, public_url: str = "") -> None:
        self.bucket = bucket
        self.endpoint_url = endpoint_url
        self.public_url = public_url
        self._client: Any = None

    def save(self, name: str, data: bytes) -> None:
        with self._translated_failures():
            self._call("put_object", name, Body=data)

    def save_file(self, name: str, path: Path, media_type: str) -> None:
        headers = {
            "ContentType": media_type,
            "ContentDisposition": "inline",
            "CacheControl": f"public, max-age={_seconds_kept()}, immutable",
        }
        with path.open("rb") as file, self._translated_failures():
            # boto3's `upload_file` would use threads of its own.
            self._call("put_object", name, Body=file, **headers)

    def load(self, name: str) -> bytes | None:
        with self._translated_failures():
            response = self._get(name)
            return None if response is None else bytes(response["Body"].read())

    def pieces(self, name: str) -> tuple[int, Pieces] | None:
        with self._translated_failures():
            response = self._get(name)
            if response is None:
                return None
            return int(response["ContentLength"]), Pieces(
                response["Body"], self._translated_failures
            )

    def read(self, name: str, start: int, length: int) -> bytes | None:
        byte_range = f"bytes={start}-{start + length - 1}"
        with self._translated_failures():
            try:
                response = self._get(name, Range=byte_range)
            except exceptions.ClientError as error:
                if error.response.get("Error", {}).get("Code") == "InvalidRange":
                    return b""
                raise
            return None if response is None else bytes(response["Body"].read())

    def delete(self, name: str) -> None:
        with self._translated_failures():
            self._call("delete_object", name)

    def url(self, name: str) -> str:
        """Return the public link if there is one, otherwise a signed link that expires."""
        if self.public_url:
            return f"{self.public_url}/{quote(name)}"
        with self._translated_failures():
            link: str = self._get_client().generate_presigned_url(
                "get_object",
                Params={"Bucket": self.bucket, "Key": name},
                ExpiresIn=settings.media_url_seconds,
            )
        return link

    def _reason(self, cause: BaseException | None) -> str:
        if isinstance(cause, exceptions.ClientError):
            code = str(cause.response.get("Error", {}).get("Code", ""))
            return REASONS_BY_CODE.get(code) or f"S3 refuses with {_plain_word(code)}."
        reasons = (sentence for kind, sentence in REASONS_BY_CLASS if isinstance(cause, kind))
        return next(reasons, f"S3 cannot be used: {type(cause).__name__}.")

    def _get(self, name: str, **more: Any) -> Any:
        try:
            return self._call("get_object", name, **more)
        except exceptions.ClientError as error:
            if error.response.get("Error", {}).get("Code") == "NoSuchKey":
                return None
            raise

    def _call(self, operation: str, name: str, **more: Any) -> Any:
        return getattr(self._get_client(), operation)(Bucket=self.bucket, Key=name, **more)

    def _get_client(self) -> Any:
        """Return the client, which all greenlets share."""
        if self._client is None:
            # A session of our own: boto3's default one is shared and not thread-safe.
            session = boto3.session.Session()
            if session.get_credentials() is None:
                # A client looks for credentials only once; the machine's may appear later.
                raise exceptions.NoCredentialsError
            self._client = self._connect(session)
        return self._client

    def _connect(self, session: boto3.session.Session) -> Any:
        url = self.endpoint_url or None
        try:
            return session.client("s3", endpoint_url=url, config=self._config())
        except exceptions.BotoCoreError:
            raise
        except ValueError as error:  # boto3's only error for an invalid URL.
            raise exceptions.InvalidEndpointConfigurationError(msg=str(error)) from error

    def _config(self) -> Config:
        return Config(
            connect_timeout=3,
            read_timeout=30,
            retries={"mode": "standard", "total_max_attempts": 3},
            max_pool_connections=POOL_SIZE,
            signature_version="s3v4",
            # Few services besides AWS support a bucket's name as a host, and many do not support
            # the checksums that newer AWS clients send by default.
            s3={"addressing_style": "path" if self.endpoint_url else "auto"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )


def _seconds_kept() -> int:
    """Return how long caches may keep an image: as long as it is stored here."""
    return min(int(settings.media_ttl_days * DAY_SECONDS), YEAR_SECONDS)


def _plain_word(code: str) -> str:
    """Return an error's code if it is a plain word; a service may send any text there."""
    return code if re.fullmatch(r"[A-Za-z0-9.]{1,60}", code) else "an error"
