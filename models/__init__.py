"""Tables, requests, and the one tree of errors. Used by both processes."""
