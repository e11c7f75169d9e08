"""Maintenance: dead workers, lost rows, what has expired. Run by both processes."""
