"""An image stored for an account: a file in storage, and its row."""

import secrets

from sqlalchemy import Index, text
from sqlmodel import Field, SQLModel

#: File extensions by media type.
EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
#: Random bytes in a name: 160 bits cannot be guessed.
_RANDOM_BYTES = 20


class Media(SQLModel, table=True):
    """One image. Its row exists before the file, so that no file is ever orphaned.

    Times are Unix seconds.
    """

    __tablename__ = "media"
    __table_args__ = (
        Index("media_by_time", "created"),
        Index(
            "media_unstored",
            "created",
            postgresql_where=text("is_stored = false"),
            sqlite_where=text("is_stored = 0"),
        ),
    )

    #: Its file name in storage, and the end of its URL.
    name: str = Field(primary_key=True, max_length=60)
    account_id: int = Field(foreign_key="accounts.id", index=True)
    job_id: str = Field(foreign_key="jobs.id", index=True, max_length=40)
    #: Its index among the job's images, from 0.
    place: int
    #: Whether the whole file is in storage.
    is_stored: bool = False
    media_type: str = Field(max_length=20)
    bytes: int
    #: Pixels.
    width: int
    height: int
    revised_prompt: str | None = None
    created: float
    expires: float = Field(index=True)


def make_name(media_type: str) -> str:
    """Return a new name such as `3vQ….png`, of letters, digits, `-` and `_`."""
    return f"{secrets.token_urlsafe(_RANDOM_BYTES)}.{EXTENSIONS[media_type]}"
