"""A provider that is down for a while, under load: callers do not notice, and it is left alone."""

import pytest

from bench import outage


@pytest.mark.long
@pytest.mark.alone
def test_callers_do_not_notice_that_a_provider_is_down() -> None:
    seen = outage.simulate(seconds=20)

    assert set(seen.statuses) == {200}
    assert 0 < seen.stopped_after < 5
    # Probes, and nothing else.
    assert seen.late_calls <= 3
    assert seen.resumed_after is not None and seen.resumed_after < 45
