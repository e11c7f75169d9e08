"""Who may: accounts, keys, rate limits. Run by the web process and the command line."""
