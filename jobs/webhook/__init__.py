"""Webhooks: the outbox and its sender. Run by workers; `receiver` by both processes."""
