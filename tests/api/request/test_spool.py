"""What bodies that are still arriving may take of the disk."""

import pytest

from api.request import spool
from models.errors import Overloaded

MIB = 1024 * 1024


def test_bodies_take_256_mib_of_the_disk_and_one_account_cannot_take_it_all() -> None:
    with spool.share(1) as one, spool.share(2) as two, spool.share(3) as three:
        one.add(128 * MIB)
        with pytest.raises(Overloaded, match="Your account"):
            one.add(1)
        two.add(64 * MIB)
        three.add(64 * MIB)
        with spool.share(4) as four, pytest.raises(Overloaded, match="This server"):
            four.add(1)

    with spool.share(4) as four:
        four.add(128 * MIB)
    assert not spool._used
