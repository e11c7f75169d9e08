"""Logging. Imported by all; run by both processes."""
