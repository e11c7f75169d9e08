"""A hostile minute and what it does to everybody else: `python -m bench.siege`."""
