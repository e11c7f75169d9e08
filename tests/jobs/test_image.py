"""One image job in this process: what nobody foresaw is one image's failure, and not the job's."""

from collections.abc import Callable

import pytest

from billing.ledger import Claimed
from jobs import image
from jobs.image import Running, Shot
from jobs.rows import Claim
from models import errors
from providers.http import Call
from providers.image import Drawn
from tests.billing.conftest import stored  # noqa: F401  # a database for each test

pytestmark = pytest.mark.usefixtures("stored")


def broken(call: Call) -> Drawn:
    raise TypeError("unhashable type: 'list'")


def too_few(call: Call) -> Drawn:
    return Drawn([])


@pytest.mark.parametrize("draw", [broken, too_few])
def test_an_odd_answer_is_the_failure_of_its_images_alone(draw: Callable[[Call], Drawn]) -> None:
    claim = Claim(Claimed("job_1", 1, 1, 20, "10"), "flux-pro", "image", "redis", 0, False, [])
    shot = Shot(2, 2)

    image._take(Running(claim, Call(10)), shot, draw)

    assert {at: type(error) for at, error in shot.errors.items()} == {
        2: errors.InternalError,
        3: errors.InternalError,
    }
