"""Following a job: its stream and its end. Run by the web process."""
