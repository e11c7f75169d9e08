"""Maintenance: dead workers, lost jobs, expired rows. Run by both processes."""
