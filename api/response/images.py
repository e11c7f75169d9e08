"""Rendering a job's answer for the request being answered: image links need its base URL."""

from collections.abc import Callable, Iterator

from flask import request

from jobs.kinds import KINDS


def renderer(kind: str) -> Callable[[bytes], tuple[int, Iterator[bytes]]]:
    """Return a function that renders answers of a `kind`, with links to this request's host."""
    render, address = KINDS[kind].render, base_url()
    return lambda body: render(body, address)


def base_url() -> str:
    """Return the scheme and host that the current request was sent to."""
    return request.host_url.rstrip("/")
