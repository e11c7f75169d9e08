"""The floor: the least a Flask proxy on gevent can cost, without queue, keys or credits."""

import requests
from flask import Flask, Response, request

from config.settings import settings

app = Flask(__name__)
session = requests.Session()
session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=1000))


@app.post("/v1/chat/completions")
def forward() -> Response:
    answer = session.post(
        f"{settings.openai_base_url}/chat/completions",
        data=request.get_data(),
        headers={"Content-Type": "application/json", "Authorization": "Bearer floor"},
        timeout=60,
    )
    return Response(answer.content, answer.status_code, content_type="application/json")
