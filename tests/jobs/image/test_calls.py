"""One image job in this process: what nobody foresaw is one image's failure, and not the job's."""

from collections.abc import Callable

import pytest

from billing.outcomes import ClaimedJob
from jobs.image import calls
from jobs.image.outcome import ImageCall, ImageJob
from jobs.lifecycle.store import Claim
from models.errors import InternalError
from net.call import Call
from providers.image import DrawResult

pytestmark = pytest.mark.usefixtures("stored")


def broken(call: Call) -> DrawResult:
    raise TypeError("unhashable type: 'list'")


def too_few(call: Call) -> DrawResult:
    return DrawResult([])


@pytest.mark.parametrize("draw", [broken, too_few])
def test_an_odd_answer_is_the_failure_of_its_images_alone(
    draw: Callable[[Call], DrawResult],
) -> None:
    claim = Claim(ClaimedJob("job_1", 1, 1, 20, "10"), "flux-pro", "image", "redis", 0, False, [])
    image_call = ImageCall(2, 2)

    calls._perform(ImageJob(claim, Call(10)), image_call, draw)

    assert {at: type(error) for at, error in image_call.errors.items()} == {
        2: InternalError,
        3: InternalError,
    }
