"""The nouns, stored and spoken, and the one tree of errors. Used by both processes."""
