"""Refusals of a provider's, read."""

import json
from typing import Any

from models.errors import LikeDoError
from net.answer import Response
from providers.wire import refusal as wire_refusal


def refusal(status: int, body: Any, headers: dict[str, str] | None = None) -> LikeDoError:
    content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return wire_refusal.refusal("vendor", Response(status, headers or {}, content))


def said(message: str = "No.", **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message} | fields}
