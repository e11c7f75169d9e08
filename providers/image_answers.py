"""What an answer with images comes to: as many as were wanted, or for each why there is none."""

from collections.abc import Sequence

from models.errors import LikeDoError
from providers.image import Drawn, Picture


def drawn(found: Sequence[Picture | LikeDoError], count: int, missing: LikeDoError) -> Drawn:
    """Return `count` outcomes: those `found`, and `missing` for each that is not there.

    Raises the first error where there is no image among them.
    """
    outcomes = [*found[:count], *[missing] * (count - len(found))]
    if not any(isinstance(outcome, Picture) for outcome in outcomes):
        raise next(outcome for outcome in outcomes if isinstance(outcome, LikeDoError))
    return Drawn(outcomes)
