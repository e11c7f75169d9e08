"""Object storage: large request bodies, callers' files and images. Run by both processes."""

from functools import cache

from config.settings import settings
from storage.backend import Backend


@cache
def backend() -> Backend:
    """Return this process's storage. A seam: tests replace it."""
    if settings.s3_bucket:
        from storage.s3 import S3  # boto3 is slow to import and large, so only S3 users load it.

        return S3(settings.s3_bucket, settings.s3_endpoint_url, settings.s3_public_url)
    from storage.local import Local

    return Local(settings.var_dir / "files")


def ready() -> None:
    """Raise `Unavailable` unless the storage accepts files now, or did a moment ago.

    To be called before work whose outcome would be lost if it could not be stored.
    """
    backend().ready()
