"""What an operator decides: the environment, the catalogue, the connections they name."""
