"""What a job came to, as settlement needs it: who answered, with what, using how much."""

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
    """Who was asked for an answer: a provider and its model, or nobody; and who was before."""

    provider: str | None = None
    upstream_model: str | None = None
    #: What it costs there, where that is not what the model costs that the job is for.
    price: Price | None = None
    #: Each time a provider was asked, this one included.
    trail: Sequence[Mapping[str, Any]] = ()

    def price_for(self, job: "ClaimedJob") -> Price:
        return self.price or pricing.from_text(job.price)

    def columns(self, job: "ClaimedJob") -> dict[str, Any]:
        """Return what the job's row says of it."""
        return {
            "provider": self.provider,
            "upstream_model": self.upstream_model,
            "price": pricing.as_text(self.price_for(job)),
            "trail": orjson.dumps(list(self.trail)).decode(),
        }


NO_UPSTREAM = UpstreamAttribution()


class JobOutcome(Protocol):
    """What a job gave, and what that costs."""

    #: The answer as callers get it, without what was charged.
    @property
    def content(self) -> dict[str, Any]: ...
    @property
    def asked(self) -> UpstreamAttribution: ...

    #: Of a stream: the number of the last event before those that end it.
    @property
    def events(self) -> int | None: ...

    #: Whether callers get it even where the job was cancelled meanwhile.
    @property
    def outlasts_cancel(self) -> bool: ...

    def cost(self, job: "ClaimedJob") -> int:
        """Return what it costs, in credits."""

    def usage_record(self) -> str:
        """Return what the provider reported of what it took, as the JSON that the job keeps."""


@dataclass(frozen=True)
class ChatOutcome:
    """What a chat gave: the completion, the tokens it used, and who was asked for it."""

    content: dict[str, Any]
    usage: Usage
    asked: UpstreamAttribution
    #: The provider reported nothing that could be charged.
    free: bool = False
    events: int | None = None

    outlasts_cancel = False

    def cost(self, job: "ClaimedJob") -> int:
        price = self.asked.price_for(job)
        assert isinstance(price, ChatPrice)
        return 0 if self.free else pricing.chat(price, self.usage)

    def usage_record(self) -> str:
        return _usage_record(self.usage, self.content.get("usage"))


@dataclass(frozen=True)
class ImagesOutcome:
    """The images that are stored: what callers get to know of them, and their price together."""

    content: dict[str, Any]
    credits: int
    asked: UpstreamAttribution

    events = None
    outlasts_cancel = True

    def cost(self, job: "ClaimedJob") -> int:
        return self.credits

    def usage_record(self) -> str:
        counted = self.content.get("usage") or {"images": len(self.content["data"])}
        return orjson.dumps(counted | {"estimated": False}).decode()


@dataclass(frozen=True)
class Settled:
    """A job that has been paid for: the answer as callers get it, and the credits."""

    body: bytes
    charged: int
    available: int
    #: Whether jobs of the account wait for the place that it leaves.
    others_wait: bool = False
    #: Whether its end is in the outbox of webhooks.
    has_webhook: bool = False


@dataclass(frozen=True)
class ClaimedJob:
    """What a settle has to know of the job it ends."""

    id: str
    account_id: int
    attempt: int
    held: int
    price: str
    #: The batch that it is a line of.
    batch_id: str | None = None


def _usage_record(usage: Usage, shown: dict[str, Any] | None = None) -> str:
    return orjson.dumps((shown or usage.as_json()) | {"estimated": usage.estimated}).decode()
