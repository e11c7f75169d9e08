"""Which provider is tried next. Run by workers; candidates and health by both processes."""
