"""What an answer with images comes to: as many as were wanted, or for each why there is none."""

import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from models.errors import LikeDoError
from providers.http import Call
from providers.image import Drawn, Picture

#: An image, or why there is none.
Outcome = Picture | LikeDoError


def drawn(found: Sequence[Outcome], count: int, missing: LikeDoError) -> Drawn:
    """Return `count` outcomes: those `found`, and `missing` for each that is not there.

    Raises the first error where there is no image among them.
    """
    outcomes = [*found[:count], *[missing] * (count - len(found))]
    if not any(isinstance(outcome, Picture) for outcome in outcomes):
        raise next(outcome for outcome in outcomes if isinstance(outcome, LikeDoError))
    return Drawn(outcomes)


def side_by_side(call: Call, fetches: Sequence[Callable[[], Picture]]) -> list[Outcome]:
    """Run all of `fetches` at once and return what came of each, in their order.

    Raises what `call` was aborted with, which is no error of an image.
    """
    if not fetches:
        return []
    with ThreadPoolExecutor(len(fetches)) as pool:
        outcomes = list(pool.map(outcome, fetches))
    if any(isinstance(each, LikeDoError) for each in outcomes):
        call.check()
    return outcomes


def outcome(fetch: Callable[[], Picture]) -> Outcome:
    """Return the image, or the error that was raised in its place."""
    try:
        return fetch()
    except LikeDoError as error:
        return error


def new_file(folder: Path) -> Path:
    """Return a path in `folder` where nothing is."""
    return folder / secrets.token_hex(16)
