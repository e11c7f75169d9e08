"""What commands read and print. Run by the command line."""
