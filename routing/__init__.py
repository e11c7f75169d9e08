"""Which provider is asked next. Run by workers; candidates and health by both processes."""
