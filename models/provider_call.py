"""One call to a provider for some of a job's images: what has to be known when its worker dies."""

from enum import StrEnum

from sqlalchemy import Column, Text, UniqueConstraint
from sqlmodel import Field, SQLModel


class CallStatus(StrEnum):
    #: The request is about to go out, or is out: whoever finds it so may not send it again.
    ASKED = "asked"
    #: The request surely began nothing: as if there were no row.
    UNASKED = "unasked"
    #: The provider works on it, under an id.
    STARTED = "started"
    #: Its images are stored or lost; `errors` says which are lost.
    DONE = "done"


class ProviderCall(SQLModel, table=True):
    """A call for the images `place` to `place + images - 1` of a job, counted from 0."""

    __tablename__ = "shots"
    __table_args__ = (UniqueConstraint("job_id", "place"),)

    id: int | None = Field(default=None, primary_key=True)
    job_id: str = Field(foreign_key="jobs.id", index=True, max_length=40)
    place: int
    #: How many.
    images: int
    status: str = Field(max_length=10)
    #: The model whose route it went, where that is a fallback; and who was asked, and with which
    #: of the provider's keys.
    model: str = Field(max_length=256)
    provider: str = Field(max_length=20)
    upstream_model: str = Field(max_length=256)
    key_id: str = Field(max_length=12)
    #: The provider's id of what it works on.
    started: str | None = Field(default=None, max_length=256)
    #: As JSON: the errors of images that did not come, by their place in the job; OpenAI's usage.
    errors: str | None = Field(default=None, sa_column=Column(Text))
    usage: str | None = Field(default=None, sa_column=Column(Text))
