"""Jobs: submitted by the web process, run by workers. Each folder says what runs it."""
