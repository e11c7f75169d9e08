"""Counting tokens, and bounding them without counting. Run by both processes."""
