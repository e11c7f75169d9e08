"""202 with the job itself, for callers that come back for its answer."""

from flask import Response, g

from api.request import prefer
from api.response import images
from jobs.lifecycle import store, view

#: `Retry-After` of a job: when polling it again is worthwhile.
POLL_SECONDS = 1


def accepted(job_id: str) -> Response:
    """Return 202 with the job and its `Location`."""
    row = store.find(job_id)
    assert row is not None
    headers = g.job_headers | {
        "Location": f"/api/v1/ai/jobs/{row.id}",
        "Retry-After": str(POLL_SECONDS),
    }
    if prefer.respond_async():
        headers["Preference-Applied"] = "respond-async"
    body = view.with_result(row, images.base_url())
    return Response(body, status=202, content_type="application/json", headers=headers)
