"""`python -m cli` is `likedo`."""

from cli.main import main

main(prog_name="likedo")
