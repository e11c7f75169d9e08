"""What performance claims rest on."""
