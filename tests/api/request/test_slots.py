"""Slots: so many for each account, so many in all, and every one is given back."""

import pytest

from api.request.slots import Slots
from models.errors import Overloaded


def test_an_account_has_its_slots_and_all_accounts_together_theirs() -> None:
    slots = Slots(2, "Yours are taken.", total=3)
    first, second = slots.take(1), slots.take(1)

    with pytest.raises(Overloaded, match="Yours"):
        slots.take(1)
    with slots.taken(2), pytest.raises(Overloaded, match="This server"):
        slots.take(3)
    first()
    first()  # It gives back one slot, however often it is called.
    third = slots.take(1)
    with pytest.raises(Overloaded, match="Yours"):
        slots.take(1)

    second()
    third()
    assert slots.free == 3 and not slots._accounts
