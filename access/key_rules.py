"""What a key may be used for: models, addresses, requests per hour. Without a rule: everything."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import orjson

from config import networks
from config.networks import Address, Network
from models.errors import AddressNotAllowed, ModelNotAllowed


class NamesModels(Protocol):
    """A request that names the models which may answer it."""

    @property
    def model(self) -> str: ...
    @property
    def fallbacks(self) -> list[str]: ...


@dataclass(frozen=True)
class KeyRules:
    """The rules of one key; None where it has none."""

    models: frozenset[str] | None = None
    addresses: tuple[Network, ...] | None = None
    requests_per_hour: int | None = None

    def check_address(self, address: Address | None) -> None:
        """Raise `AddressNotAllowed` unless a client at `address`, None if unknown, may use it."""
        if self.addresses is None:
            return
        if address is None or not networks.contain(self.addresses, address):
            raise AddressNotAllowed(
                f"This key may not be used from {address or 'an unknown address'}. Its owner has "
                "to allow the address, or give you another key."
            )

    def check_request(self, request: NamesModels) -> None:
        """Raise `ModelNotAllowed` for the first model of `request` that the key may not use."""
        self.check_model(request.model)
        for index, name in enumerate(request.fallbacks):
            self.check_model(name, f"fallbacks[{index}]")

    def check_model(self, name: str, param: str | None = "model") -> None:
        """Raise `ModelNotAllowed` unless the key may use a model that callers named in `param`."""
        if not self.allows(name):
            raise ModelNotAllowed(
                f"This key may not use the model '{name}'. GET /api/v1/ai/models lists those that "
                "it may use.",
                param=param,
            )

    def allows(self, model: str) -> bool:
        return self.models is None or model in self.models


def from_columns(
    models: str | None, addresses: str | None, requests_per_hour: int | None
) -> KeyRules:
    """Return the rules in a key's columns."""
    return KeyRules(
        None if models is None else frozenset(orjson.loads(models)),
        None if addresses is None else networks.read(",".join(orjson.loads(addresses))),
        requests_per_hour,
    )


def as_column(values: Sequence[str] | None) -> str | None:
    """Return a list as a key's column holds it."""
    return None if values is None else orjson.dumps(list(values)).decode()
