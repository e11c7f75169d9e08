"""Files: request bodies too large for Redis, and images. One call for every backend."""

from functools import cache

from config.settings import settings
from storage.backend import Backend


@cache
def backend() -> Backend:
    """Return this process's storage. A seam: tests put another in its place."""
    if settings.s3_bucket:
        from storage.s3 import S3  # boto3 takes its time and memory; only who needs it pays.

        return S3(settings.s3_bucket, settings.s3_endpoint_url, settings.s3_public_url)
    from storage.local import Local

    return Local(settings.var_dir / "files")


def ready() -> None:
    """Raise `Unavailable` where the storage takes no files just now, as far as that is known.

    To be asked before work whose outcome would be lost if it could not be kept.
    """
    backend().ready()
