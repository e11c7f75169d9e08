"""Running it: logs, health, and stopping in good order."""
