"""Batches: validate, dispatch lines, write output. Run by workers; `store` by both processes."""
