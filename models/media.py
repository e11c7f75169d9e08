"""An image that is kept for its account: a file in storage, and what is known of it."""

import secrets

from sqlmodel import Field, SQLModel

#: The ending of a file's name, by its media type.
ENDINGS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
#: Of a name; nobody can guess 160 bits.
_RANDOM_BYTES = 20


class Media(SQLModel, table=True):
    """One file. The row is there before the file, so that none is ever forgotten.

    Times are Unix seconds.
    """

    __tablename__ = "media"

    #: Its name in storage, and the end of its address.
    name: str = Field(primary_key=True, max_length=60)
    account_id: int = Field(foreign_key="accounts.id", index=True)
    job_id: str = Field(foreign_key="jobs.id", index=True, max_length=40)
    #: Which of the job's images it is, from 0.
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
    return f"{secrets.token_urlsafe(_RANDOM_BYTES)}.{ENDINGS[media_type]}"
