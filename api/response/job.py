"""202: the job itself, for callers that come back for its answer."""

from flask import Response, g

from api.request import prefer
from api.response import images
from jobs.lifecycle import store, view

#: When it is worth asking for a job again, in seconds.
POLL_SECONDS = 1


def accepted(job_id: str) -> Response:
    """Return the job that the caller is to come back for: 202, and where to."""
    row = store.find(job_id)
    assert row is not None
    headers = g.job_headers | {
        "Location": f"/api/v1/ai/jobs/{row.id}",
        "Retry-After": str(POLL_SECONDS),
    }
    if prefer.asynchronously():
        headers["Preference-Applied"] = "respond-async"
    body = view.with_result(row, images.own_address())
    return Response(body, status=202, content_type="application/json", headers=headers)
