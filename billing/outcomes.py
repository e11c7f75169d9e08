"""The outcome of a job as settlement needs it: the answer, its usage, and the upstream."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from billing import pricing
from billing.pricing import Price
from config.catalog.model import ChatPrice
from models.chat import Usage


@dataclass(frozen=True)
class UpstreamAttribution:
    """The provider and model that a job was sent to, if any, and the calls before."""

    provider: str | None = None
    upstream_model: str | None = None
    #: The price there, if it differs from that of the requested model.
    price: Price | None = None
    #: Every provider call of the job, including this one.
    trail: Sequence[Mapping[str, Any]] = ()

    def price_for(self, job: "ClaimedJob") -> Price:
        return self.price or pricing.from_text(job.price)

    def columns(self, job: "ClaimedJob") -> dict[str, Any]:
        """Return its columns of the job's row."""
        return {
            "provider": self.provider,
            "upstream_model": self.upstream_model,
            "price": pricing.as_text(self.price_for(job)),
            "trail": orjson.dumps(list(self.trail)).decode(),
        }


NO_UPSTREAM = UpstreamAttribution()


class JobOutcome(Protocol):
    """What a job produced, and what that costs."""

    #: The answer as callers get it, without `credits_consumed`.
    @property
    def content(self) -> dict[str, Any]: ...
    @property
    def upstream(self) -> UpstreamAttribution: ...

    #: For a stream, the number of the last event before those that end it.
    @property
    def events(self) -> int | None: ...

    #: Whether callers get it even if the job was cancelled meanwhile.
    @property
    def outlasts_cancel(self) -> bool: ...

    def cost(self, job: "ClaimedJob") -> int:
        """Return the cost in credits."""

    def usage_record(self) -> str:
        """Return the usage that the provider reported, as the JSON of the job's row."""


@dataclass(frozen=True)
class ChatOutcome:
    """A chat's completion, the tokens it used, and the upstream."""

    content: dict[str, Any]
    usage: Usage
    upstream: UpstreamAttribution
    #: Whether the provider reported nothing that could be charged.
    free: bool = False
    events: int | None = None

    outlasts_cancel = False

    def cost(self, job: "ClaimedJob") -> int:
        price = self.upstream.price_for(job)
        assert isinstance(price, ChatPrice)
        return 0 if self.free else pricing.chat(price, self.usage)

    def usage_record(self) -> str:
        return _usage_record(self.usage, self.content.get("usage"))


@dataclass(frozen=True)
class ImagesOutcome:
    """The images that are stored, as callers see them, and their total price."""

    content: dict[str, Any]
    credits: int
    upstream: UpstreamAttribution

    events = None
    outlasts_cancel = True

    def cost(self, job: "ClaimedJob") -> int:
        return self.credits

    def usage_record(self) -> str:
        usage = self.content.get("usage") or {"images": len(self.content["data"])}
        return orjson.dumps(usage | {"estimated": False}).decode()


@dataclass(frozen=True)
class Settled:
    """A settled job: the answer as callers get it, and the credits."""

    body: bytes
    charged: int
    available: int
    #: Whether jobs of the account wait for the slot that it frees.
    has_waiting_jobs: bool = False
    #: Whether a webhook about it is in the outbox.
    has_webhook: bool = False


@dataclass(frozen=True)
class ClaimedJob:
    """A claimed job, as far as settling it needs to know."""

    id: str
    account_id: int
    attempt: int
    held: int
    price: str
    #: The batch whose line it is, if any.
    batch_id: str | None = None
    #: The key that it was called with; and the UTC day of its hold, if that counts for the key.
    key_id: int | None = None
    key_day: int | None = None


def _usage_record(usage: Usage, reported: dict[str, Any] | None = None) -> str:
    return orjson.dumps((reported or usage.as_json()) | {"estimated": usage.estimated}).decode()
