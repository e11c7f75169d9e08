"""The floor: a bare Flask proxy on gevent, without queue, keys or credits.

Its cost is the theoretical minimum that `make bench` compares with.
"""

from collections.abc import Iterator

import requests
from flask import Flask, Response, request

from config.settings import settings

app = Flask(__name__)
session = requests.Session()
session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=1000))


@app.post("/v1/chat/completions")
def forward() -> Response:
    body = request.get_data()
    streamed = b'"stream": true' in body
    answer = session.post(
        settings.base_url_of("openai") + "/chat/completions",
        data=body,
        headers={"Content-Type": "application/json", "Authorization": "Bearer floor"},
        timeout=60,
        stream=streamed,
    )
    if streamed:
        return Response(_relay(answer), content_type="text/event-stream")
    return Response(answer.content, answer.status_code, content_type="application/json")


def _relay(answer: requests.Response) -> Iterator[bytes]:
    yield from answer.raw.stream(65536) if not answer.raw.chunked else answer.raw.read_chunked()
