"""What a worker takes while it makes many large images."""

import json

import pytest

from tests.callers import Callers
from tests.conftest import provider_settings
from tests.stack import Process, stack
from tests.upstream import Upstream

JOBS, EACH, SIDE = 16, 4, 2048
MAX_MIB = 400


def peak_mib(process: Process) -> float:
    """Return the most memory that the process has ever had, in MiB."""
    with open(f"/proc/{process.pid}/status") as status:
        line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


@pytest.mark.long
@pytest.mark.alone
def test_sixteen_jobs_of_four_large_images_take_less_than_400_mib(upstream: Upstream) -> None:
    upstream.script(default={"noise": SIDE})
    body = {"model": "gpt-image-2", "prompt": "A cat.", "size": f"{SIDE}x{SIDE}", "n": EACH}
    with stack(**provider_settings(upstream), sync_wait_seconds=0) as own:
        web, worker = own.web(), own.worker()
        account = own.account(credits=10_000)
        callers = Callers()

        callers.draw(web, account.key, body | {"response_format": "url"}, times=JOBS, timeout=580)
        replies = callers.replies()

        assert {status for status, _, _ in replies} == {200}
        images = [datum for _, _, content in replies for datum in json.loads(content)["data"]]
        assert len(images) == JOBS * EACH
        assert account.standing() == (10_000 - 10 * JOBS * EACH, 0)
        # They were as large as they can be.
        assert own.query("SELECT min(bytes) FROM media")[0][0] > 3 * SIDE * SIDE
        print(f"The worker took {peak_mib(worker):.0f} MiB at the most.")
        assert peak_mib(worker) < MAX_MIB
