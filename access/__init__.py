"""Accounts, keys and rate limits. Run by the web process and the command line."""
