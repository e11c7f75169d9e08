"""Who may: keys, and how often."""
