"""The request that every caller of the benchmarks sends."""

import json

BODY = json.dumps(
    {
        "model": "gpt-4",
        "messages": [{"role": "user", "content": "What is a queue?"}],
        "max_tokens": 100,
    }
).encode()
