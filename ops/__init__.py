"""Logging. Imported by every room; run by both processes."""
