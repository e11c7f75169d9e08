"""A provider to test against: a real HTTP server that says what a test tells it to say.

`python -m tests.upstream --port N` serves until it is told to stop. It answers every
`POST …/chat/completions` with a small fixed completion, streamed where the body has
`"stream": true`, and every `POST …:generateContent` and `…:streamGenerateContent` with the same in
Gemini's words, any number of them at a time, and records what it was asked. It draws, too:

- `POST …/images/generations`: OpenAI's answer, with `n` images of the `size` asked as base64;
- `POST …/predictions` and `…/models/{owner}/{name}/predictions`: a prediction as Replicate begins
  it; `GET …/predictions/{id}` is `processing` once and then `succeeded`, with a list of URLs, or
  one URL for `flux-pro` and `flux-1.1`; `POST …/predictions/{id}/cancel` ends it;
- `GET …/files/….png`, `.jpg` and `.webp`: what these URLs lead to; a name that ends in
  `PLACE-WIDTHxHEIGHT` says which size;
- `POST …/v2beta/stable-image/generate/core`, `ultra` and `sd3`, and
  `POST …/v1/generation/{engine}/text-to-image`: what Stability AI answers.

`Upstream` starts one on a free port and steers it over HTTP:

    POST /__script   {"next": [step, …], "default": step}; either may be left out
    GET  /__calls    {"received", "running", "aborted", "connections", "calls": [call, …]}
                     `?received=N` or `?aborted=N` waits until there are as many, for a minute
    POST /__release  let the answers and the predictions go on that a step holds
    POST /__reset    forget the script, the calls and the predictions

A step says how one request is answered; a request takes the first step of `next` that matches it,
or else the default. All its fields may be left out:

    status, headers, body   the answer; or `body_base64` (bytes), `json` (a value), `size` (bytes);
                            where there is none of them, the small fixed completion, or what is
                            drawn at that path
    match                   take this step only for a path that contains this text
    prediction              how the prediction goes that is begun, all to be left out:
                            {"polls": 1, "ends": "succeeded", "error": text, "output": value,
                            "hold": false}. `polls` is how often it is `processing`; `ends` may be
                            any status; held, it is `processing` until it is released. The step is
                            for nothing else
    noise                   OpenAI's images are squares of so many pixels a side that cannot be
                            compressed
    hold                    true: no byte of the answer before it is released
    delay                   seconds before the first byte of the answer
    body_delay              seconds between the headers and the body
    dribble, gap, times     before the body, this text `times` times (for ever where there is no
                            number), every `gap` seconds
    split                   the body in pieces of so many bytes, `gap` seconds between them
    events                  an event stream: `data: …` and a chunk for each of these texts,
                            `[DONE]` like any other, `gap` seconds between them
    chunked                 no Content-Length, the body in chunks
    cut                     bytes of the body after which the connection ends; -1 ends it before
                            the status line
    close                   "announced" as HTTP does it, "silent" right after the answer
    raw                     text sent instead of any HTTP
"""

from tests.upstream.client import ROOT, Upstream, as_step
from tests.upstream.completions import COMPLETION, Step, chunk, gemini_said, said

__all__ = [
    "COMPLETION",
    "ROOT",
    "Step",
    "Upstream",
    "as_step",
    "chunk",
    "gemini_said",
    "said",
]
