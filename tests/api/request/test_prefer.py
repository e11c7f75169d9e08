"""The header `Prefer`, in the ways that RFC 7240 lets it be written."""

import pytest
from flask import Flask

from api.request import prefer


@pytest.mark.parametrize(
    ("header", "is_async", "wait"),
    [
        ("respond-async", True, None),
        ("Respond-Async, wait=10", True, 10),
        ('wait="5"; foo=bar, respond-async', True, 5),
        ("wait = 7", False, 7),
        ("wait=soon", False, None),
        ("wait=-1", False, None),
        ("wait=inf", False, None),
        ("wait=3, wait=9", False, 3),
        ("handling=lenient", False, None),
        ("no-respond-async-here", False, None),
        ("", False, None),
    ],
)
def test_preferences_are_read(header: str, is_async: bool, wait: float | None) -> None:
    with Flask("test").test_request_context(headers={"Prefer": header}):
        assert prefer.respond_async() == is_async
        assert prefer.wait_seconds() == wait
