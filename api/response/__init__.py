"""Making responses: JSON, a stream, events, a job, a replay. Run by the web process."""
