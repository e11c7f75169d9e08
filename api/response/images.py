"""An image job's answer, as the client gets it whose request is being answered."""

from collections.abc import Callable, Iterator
from functools import partial

from flask import request

from jobs.lifecycle.image_answer import rendered


def renderer() -> Callable[[bytes], tuple[int, Iterator[bytes]]]:
    """Return `rendered` with the address that the request being answered came to."""
    return partial(rendered, address=own_address())


def own_address() -> str:
    """Return the address that the request being answered came to."""
    return request.host_url.rstrip("/")
