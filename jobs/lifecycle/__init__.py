"""A job from its row to its end: quote, hold, queue, cancel, finish. Run by both processes."""
