"""Finding a provider by its name."""

import pytest

from models.errors import NoProvider
from providers import by_name, get_one


def test_every_provider_is_found_by_its_own_name() -> None:
    assert [get_one(name).name for name in by_name] == list(by_name)


def test_a_provider_that_is_not_there_is_said_to_be_so() -> None:
    with pytest.raises(NoProvider, match="acme"):
        get_one("acme")
