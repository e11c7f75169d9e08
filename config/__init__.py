"""Settings, the catalogue and connections. Run by both processes."""
