"""What holds after every disaster."""

import json

from tests.stack import Account, Reply, Stack, wait_until

CALLS = 50


def nothing_is_left_behind(stack: Stack, account: Account, replies: list[Reply]) -> None:
    """Assert what holds after every disaster: all ended, each paid once, nothing held."""
    wait_until(lambda: stack.unfinished() == 0, "every job has ended")
    jobs = account.jobs()
    charged = sum(job["charged"] for job in jobs)
    answered = [reply for reply in replies if reply[0] == 200]
    assert all(job["charged"] in (0, 1) for job in jobs)
    assert charged == sum(job["status"] == "completed" for job in jobs)
    assert len(answered) <= charged
    assert account.standing() == (1000 - charged, 0)
    assert account.entries().count(("charge", -1)) == charged
    for status, headers, body in replies:
        if status != 200:
            assert json.loads(body)["error"]["code"]
            assert headers["content-type"] == "application/json"
