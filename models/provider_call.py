"""One call to a provider for some of a job's images, recorded in case its worker dies."""

from enum import StrEnum

from sqlalchemy import Column, Text, UniqueConstraint
from sqlmodel import Field, SQLModel


class CallStatus(StrEnum):
    #: The request is about to be sent, or was sent: another worker must not send it again.
    ASKED = "asked"
    #: The request certainly began nothing; the row counts as absent.
    UNASKED = "unasked"
    #: The provider works on it and gave it an id.
    STARTED = "started"
    #: Its images are stored or lost; `errors` has those that are lost.
    DONE = "done"


class ProviderCall(SQLModel, table=True):
    """A call for `images` images of a job, from index `place` on, counted from 0."""

    __tablename__ = "shots"
    __table_args__ = (UniqueConstraint("job_id", "place"),)

    id: int | None = Field(default=None, primary_key=True)
    job_id: str = Field(foreign_key="jobs.id", index=True, max_length=40)
    place: int
    images: int
    status: str = Field(max_length=10)
    #: The model whose route was taken, which may be a fallback's; the provider that was called, its
    #: name for the model, and which of the provider's keys was used.
    model: str = Field(max_length=256)
    provider: str = Field(max_length=20)
    upstream_model: str = Field(max_length=256)
    key_id: str = Field(max_length=12)
    #: The provider's id for its work, such as that of a prediction.
    started: str | None = Field(default=None, max_length=256)
    #: As JSON: the errors of missing images by their index in the job, and OpenAI's usage.
    errors: str | None = Field(default=None, sa_column=Column(Text))
    usage: str | None = Field(default=None, sa_column=Column(Text))
