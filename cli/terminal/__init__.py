"""Arguments, output and errors of commands. Run by the command line."""
