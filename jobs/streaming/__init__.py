"""Streams between processes: messages, pub/sub, the log, SSE. Run by both processes."""
