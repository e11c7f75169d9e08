"""The HTTP contract, one file per noun. Run by the web process."""
