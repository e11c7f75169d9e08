"""Jobs: submitted by the web process, run by workers. Each folder says which process runs it."""
