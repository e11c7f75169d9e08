"""Batches of the caller's."""

from collections.abc import Iterator

import pytest

from tests.batches import Batches
from tests.conftest import Server
from tests.stack import Account


@pytest.fixture
def batches(server: Server, account: Account) -> Iterator[Batches]:
    batches = Batches(server.url, account)
    yield batches
    batches.close()
