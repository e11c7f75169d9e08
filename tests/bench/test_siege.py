"""A hostile minute, as `make siege` measures it, without its figures."""

import pytest

from bench.siege.__main__ import besiege

pytestmark = [pytest.mark.long, pytest.mark.alone]

#: Problems that depend on the speed of the machine.
FIGURES = {"the p99 grew too much", "the memory did not come down again"}


def test_nobody_is_refused_and_nothing_is_lost_because_of_attackers() -> None:
    result = besiege(quiet_seconds=4, hostile_seconds=20, rate=50)

    assert result["attacks"]["requests"] > 100
    assert set(result["problems"]) <= FIGURES, result
