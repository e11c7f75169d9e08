"""Following a job: what a caller waits for. Run by the web process."""
