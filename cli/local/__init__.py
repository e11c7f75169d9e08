"""`likedo up`: everything on one machine. Run by the command line."""
