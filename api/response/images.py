"""An image job's answer, as the client gets it whose request is being answered."""

from collections.abc import Callable, Iterator

from flask import request

from jobs.kinds import KINDS


def renderer(kind: str) -> Callable[[bytes], tuple[int, Iterator[bytes]]]:
    """Return how answers of a `kind` are rendered, with links to where this request came."""
    render, address = KINDS[kind].render, own_address()
    return lambda body: render(body, address)


def own_address() -> str:
    """Return the address that the request being answered came to."""
    return request.host_url.rstrip("/")
